import { assert, describe, it } from "@effect/vitest"
import * as OAuthClient from "@sallyport/core/access/OAuthClient"

describe("clients of the authorization endpoint", () => {
  it("AGENT-01: redirect URIs are compared character by character, but for the port of a loopback address", () => {
    const same = [
      ["https://a.example/cb", "https://a.example/cb"],
      ["http://127.0.0.1/callback", "http://127.0.0.1:52163/callback"],
      ["http://127.0.0.1:33418/callback", "http://127.0.0.1/callback"],
      ["http://[::1]/callback", "http://[::1]:1/callback"],
      ["http://localhost/callback", "http://localhost:65535/callback"],
      ["http://127.0.0.1:33418/", "http://127.0.0.1:50000"],
      ["http://127.0.0.1/?a=1", "http://127.0.0.1:2/?a=1"]
    ] as const
    for (const [registered, asked] of same) assert.isTrue(OAuthClient.matchesRedirectUri(registered, asked), asked)
    const other = [
      ["https://a.example/cb", "https://a.example:443/cb"],
      ["https://127.0.0.1/cb", "https://127.0.0.1:1/cb"],
      ["http://127.0.0.1/callback", "http://localhost/callback"],
      ["http://127.0.0.1/callback", "http://127.0.0.1:0/callback"],
      ["http://127.0.0.1/callback", "http://127.0.0.1:65536/callback"],
      ["http://127.0.0.1/callback", "http://127.0.0.1:08/callback"],
      ["http://127.0.0.1/callback", "http://127.0.0.1:1/callback?x"],
      ["http://127.0.0.1/callback", "http://127.0.0.1:1/callback#x"],
      ["http://127.0.0.1/callback", "HTTP://127.0.0.1:1/callback"],
      ["http://127.0.0.1/callback", "http://127.0.0.1:1\\@evil.example/callback"],
      ["http://127.0.0.1/callback", "http://127.0.0.2:1/callback"],
      ["http://localhost/callback", "http://localhost.evil.example/callback"]
    ] as const
    for (const [registered, asked] of other) assert.isFalse(OAuthClient.matchesRedirectUri(registered, asked), asked)
  })

  it("AGENT-01: what may be redirected to is https, this machine, or a scheme that a program or the host has named", () => {
    for (const uri of ["https://a.example/cb?x=1", "http://[::1]:8/cb", "com.example.app:/cb", "vscode://a/b"]) {
      assert.isTrue(OAuthClient.isRedirectUri(uri, ["vscode"]), uri)
    }
    for (
      const uri of [
        "http://a.example/cb",
        "https://u:p@a.example/cb",
        "https://a.example/cb#",
        "https:a.example/cb",
        "https:///cb",
        "javascript:alert(1)",
        "data:text/html,x",
        "file:///etc/passwd",
        "vbscript:x",
        "cursor://a/b",
        "https://a.example/c b",
        "https://a.example/\r\nx: y",
        "/callback",
        ""
      ]
    ) {
      assert.isFalse(OAuthClient.isRedirectUri(uri, ["vscode", "javascript"]), uri)
    }
  })

  it("AGENT-02: the address of a document is an https URL with a path, in the one form of it (C1)", () => {
    for (const id of ["https://a.example/b", "https://a.example:8443/b.json", "https://a.example/b?c=d"]) {
      assert.isTrue(OAuthClient.isDocumentUrl(id), id)
    }
    for (
      const id of [
        "https://a",
        "https://a/",
        "http://a/b",
        "https://u:p@a/b",
        "https://a/b#c",
        "https://a/../b",
        "https://a/./b",
        "https://a/%2E%2e/b",
        "https://A.example/b",
        "https://a:443/b",
        "http://127.0.0.1/b",
        "registered"
      ]
    ) {
      assert.isFalse(OAuthClient.isDocumentUrl(id), id)
    }
    assert.isTrue(OAuthClient.isDocumentUrl("http://127.0.0.1:8080/b", { loopback: true }))
    assert.isFalse(OAuthClient.isDocumentUrl("http://a.example/b", { loopback: true }))
  })
})
