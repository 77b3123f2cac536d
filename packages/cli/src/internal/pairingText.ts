import * as PairingUrl from "@sallyport/core/access/PairingUrl"
import * as DateTime from "effect/DateTime"
import * as Redacted from "effect/Redacted"
import { renderUnicodeCompact } from "uqr"

/** Writes how a device pairs with a server: the address to open or the code to enter, and if it helps a QR code. */
export const pairingText = ({ baseUrl, code, expiresAt, pairingUrl, qr, what }: {
  readonly what: string
  readonly baseUrl: string
  readonly code: Redacted.Redacted
  readonly pairingUrl: Redacted.Redacted
  readonly expiresAt: DateTime.Utc
  readonly qr: boolean
}): string =>
  [
    what,
    "",
    `  ${Redacted.value(pairingUrl)}`,
    "",
    `or enter ${Redacted.value(code)} at ${baseUrl}${PairingUrl.path}. It works once, until ` +
    `${DateTime.formatIso(expiresAt).slice(11, 16)} UTC.`,
    ...(qr ? ["", renderUnicodeCompact(Redacted.value(pairingUrl))] : [])
  ].join("\n")
