import * as Schema from "effect/Schema"

/**
 * Names a secret: 1 to 128 characters of `a-z 0-9 . _ -`, the first a letter or a digit. Never a path.
 *
 * @category models
 * @since 0.1.0
 */
export const SecretName = Schema.String.check(Schema.isPattern(/^[a-z0-9][a-z0-9._-]{0,127}$/)).pipe(
  Schema.brand("SecretName")
)

/**
 * Names a secret: 1 to 128 characters of `a-z 0-9 . _ -`, the first a letter or a digit. Never a path.
 *
 * @category models
 * @since 0.1.0
 */
export type SecretName = typeof SecretName.Type

/** Checks a name. */
export const isSecretName = Schema.is(SecretName)
