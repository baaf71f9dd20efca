"""azure-identity: an unmodified DefaultAzureCredential, both forms of the managed identity's endpoint, and what is refused."""

import os

import requests
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import DefaultAzureCredential, ManagedIdentityCredential

from expect import HTTP, check, claims, equal, pool, raises

SESSIONS = "https://dynamicsessions.io/.default"


def execute(token, name="default"):
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    body = {"properties": {"codeInputType": "inline", "executionType": "synchronous", "code": "1 + 1"}}
    query = "?api-version=2024-02-02-preview&identifier=e2e-identity"
    return requests.post(pool(name) + "/code/execute" + query, json=body, headers=headers, timeout=60)


token = DefaultAzureCredential().get_token(SESSIONS)
equal("DefaultAzureCredential has a token for the sessions", claims(token.token)["aud"].rstrip("/"), "https://dynamicsessions.io")
check("which ends in the future", token.expires_on > claims(token.token)["iat"], token.expires_on)
answer = execute(token.token)
equal("it is taken", (answer.status_code, answer.json()["properties"]["result"]), (200, 2))
other = DefaultAzureCredential().get_token("https://acasessions.io/.default").token
equal("so is one for the older name", execute(other).status_code, 200)

endpoint, header = os.environ.pop("IDENTITY_ENDPOINT"), os.environ.pop("IDENTITY_HEADER")
os.environ["AZURE_POD_IDENTITY_AUTHORITY_HOST"] = HTTP
imds = ManagedIdentityCredential().get_token(SESSIONS).token
equal("a virtual machine's endpoint (IMDS) gives one, too", execute(imds).status_code, 200)
os.environ.update(IDENTITY_ENDPOINT=endpoint, IDENTITY_HEADER="not the secret")
raises("a wrong IDENTITY_HEADER", ClientAuthenticationError, lambda: ManagedIdentityCredential().get_token(SESSIONS))
os.environ["IDENTITY_HEADER"] = header

management = DefaultAzureCredential().get_token("https://management.azure.com/.default").token
for what, refused in [
    ("no token", execute(None)),
    ("a token for another audience", execute(management)),
    ("no token at all", execute("nonsense")),
    ("a token with another signature", execute(token.token[:-8] + "AAAAAAAA")),
]:
    equal(f"{what}: refused", refused.status_code, 401)
    check("with the reason in WWW-Authenticate", "Bearer" in refused.headers.get("WWW-Authenticate", ""), refused.headers)
    check("and in the body", refused.json()["error"]["message"], refused.text)
