import * as PairingUrl from "@sallyport/core/access/PairingUrl"
import * as DateTime from "effect/DateTime"
import * as Redacted from "effect/Redacted"
import { renderUnicodeCompact } from "uqr"

/** Writes how a device pairs with a server: the address to open or the code to enter, and a QR code if that fits. */
export const pairingText = ({ baseUrl, code, columns, expiresAt, pairingUrl, what }: {
  readonly what: string
  readonly baseUrl: string
  readonly code: Redacted.Redacted
  readonly pairingUrl: Redacted.Redacted
  readonly expiresAt: DateTime.Utc
  /** How wide a QR code may be. A part of one is none. */
  readonly columns: number
}): string => {
  const qr = renderUnicodeCompact(Redacted.value(pairingUrl))
  return [
    what,
    "",
    `  ${Redacted.value(pairingUrl)}`,
    "",
    `or enter ${Redacted.value(code)} at ${baseUrl}${PairingUrl.path}. It works once, until ` +
    `${DateTime.formatIso(expiresAt).slice(11, 16)} UTC.`,
    ...(qr.indexOf("\n") <= columns ? ["", qr] : [])
  ].join("\n")
}
