"""Signs in at a resource by discovery alone, with nothing but Python's standard library.

Arguments: the address of the resource, a client id and a redirect URI. Writes a line of JSON for each request that it makes,
with the status that came back, and one with the address that a person has to open. Reads the address that the person came
back with from standard input.
"""
import base64, hashlib, json, re, secrets, sys, urllib.error, urllib.parse, urllib.request

resource, client_id, redirect_uri = sys.argv[1:]


def say(**line):
    print(json.dumps(line), flush=True)


def send(method, url, form=None, token=None):
    headers = {"Accept": "application/json"}
    body = None
    if token is not None:
        headers["Authorization"] = "Bearer " + token
    if form is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        body = urllib.parse.urlencode(form)
    request = urllib.request.Request(url, None if body is None else body.encode(), headers, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            status, head, text = answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        status, head, text = error.code, error.headers, error.read()
    say(method=method, url=url, headers=headers, body=body, status=status)
    return status, head, json.loads(text) if text else {}


# From the 401 of the resource to its metadata (RFC 9728), and on to that of its server (RFC 8414).
_, head, _ = send("POST", resource)
_, _, about = send("GET", re.search('resource_metadata="([^"]+)"', head["WWW-Authenticate"]).group(1))
assert about["resource"] == resource
issuer = about["authorization_servers"][0]
_, _, server = send("GET", issuer + "/.well-known/oauth-authorization-server")
assert server["issuer"] == issuer and "S256" in server["code_challenge_methods_supported"]

# A person consents (RFC 6749 section 4.1, RFC 7636, RFC 8707, RFC 9207).
verifier = secrets.token_urlsafe(48)
challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
state = secrets.token_urlsafe(16)
say(open=server["authorization_endpoint"] + "?" + urllib.parse.urlencode({
    "response_type": "code",
    "client_id": client_id,
    "redirect_uri": redirect_uri,
    "scope": " ".join(about["scopes_supported"]),
    "state": state,
    "code_challenge": challenge,
    "code_challenge_method": "S256",
    "resource": resource,
}))
answer = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(sys.stdin.readline().strip()).query))
assert answer["state"] == state and answer["iss"] == issuer

_, _, tokens = send("POST", server["token_endpoint"], {
    "grant_type": "authorization_code",
    "client_id": client_id,
    "redirect_uri": redirect_uri,
    "code": answer["code"],
    "code_verifier": verifier,
    "resource": resource,
})
assert tokens["token_type"].lower() == "bearer"
send("POST", resource, token=tokens["access_token"])
_, _, tokens = send("POST", server["token_endpoint"], {
    "grant_type": "refresh_token",
    "client_id": client_id,
    "refresh_token": tokens["refresh_token"],
})
send("POST", resource, token=tokens["access_token"])
send("POST", server["revocation_endpoint"], {"client_id": client_id, "token": tokens["refresh_token"]})
send("POST", resource, token=tokens["access_token"])
