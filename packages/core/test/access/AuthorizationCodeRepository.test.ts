import * as Access from "@sallyport/core/access/AccessRepository"
import * as AuthorizationCodeRepositorySuite from "@sallyport/testing/AuthorizationCodeRepositorySuite"

AuthorizationCodeRepositorySuite.suite("memory", Access.layerMemory)
