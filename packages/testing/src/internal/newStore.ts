import { it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"

/** Returns how a suite declares a test of an adapter. The layer is built for each, so that each begins with a new store. */
export const testOn =
  <R, LE>(layer: Layer.Layer<R, LE>) => <A, E>(title: string, program: Effect.Effect<A, E, R>): void =>
    it.live(title, () => Effect.provide(program, layer, { local: true }))

/** Runs an effect n times at once. */
export const times = <A, E, R>(n: number, effect: (index: number) => Effect.Effect<A, E, R>) =>
  Effect.all(Array.from({ length: n }, (_, index) => effect(index)), { concurrency: "unbounded" })
