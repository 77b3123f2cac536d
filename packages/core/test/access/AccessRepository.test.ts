import { AccessFeed, AccessRepository, BootstrapCredentialService, SessionCredentialService } from "@sallyport/core"
import { describe, expect, it } from "@effect/vitest"
import { Layer } from "effect"

/** Takes only a layer that asks for the one store of access state, and for nothing else of it. */
const onOneStore = <A, E, R>(
  layer: Layer.Layer<A, E, R>,
  _store: AccessRepository.AccessRepository extends R ? true : false
) => layer

describe("AccessRepository", () => {
  it("one store serves links, sessions and the feed; parts of two stores do not compile", () => {
    const store = AccessRepository.layerMemory
    expect(onOneStore(BootstrapCredentialService.layer, true)).toBeDefined()
    expect(onOneStore(SessionCredentialService.layer, true)).toBeDefined()
    expect(onOneStore(AccessFeed.layer, true)).toBeDefined()

    const whole: Layer.Layer<AccessRepository.AccessRepository> = store
    expect(whole).toBe(store)
    // @ts-expect-error a part of one store is no store
    const part: Layer.Layer<AccessRepository.AccessRepository> = Layer.succeed(AccessRepository.AccessRepository, {
      ...AccessRepository.unsupported
    })
    expect(part).toBeDefined()
  })
})
