/**
 * What kind of device a session is opened from.
 */
import type { DeviceKind, SessionMethod } from "../Session.ts"

/** Reads the kind of a device off what it says of itself. A guess for people: it decides nothing. */
export const deviceKind = (method: SessionMethod, userAgent: string | null): DeviceKind => {
  const agent = userAgent ?? ""
  const isBrowser = /Mozilla\//i.test(agent)
  if (/iPad|Tablet|Silk\//i.test(agent)) return "tablet"
  if (isBrowser && /Android/i.test(agent) && !/Mobile/i.test(agent)) return "tablet"
  if (/iPhone|iPod|Android|Mobile|okhttp|Dalvik/i.test(agent)) return "phone"
  const isDesktop = isBrowser && /Windows|Macintosh|X11|CrOS|Linux/i.test(agent)
  if (method === "browser-session-cookie" || isDesktop) return isDesktop ? "desktop" : "browser"
  return /^(?:curl|wget|httpie|xh|sallyport)\b/i.test(agent) ? "terminal" : "program"
}
