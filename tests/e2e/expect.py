"""What the scripts share: where the server is, and checks that say what they found."""

import base64
import json
import os
import sys
import time

HTTP = os.environ["GREENROOM_E2E_HTTP"]
HTTPS = os.environ["GREENROOM_E2E_HTTPS"]
SUBSCRIPTION = "00000000-0000-0000-0000-00000000e2e0"
GROUP = "e2e"


def pool(name, base=HTTP):
    """The data plane of a pool: what clients call its management endpoint."""
    return f"{base}/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/sessionPools/{name}"


def say(what):
    print(f"     {what}", flush=True)


def check(what, holds, *found):
    """Says that it holds, or ends the script with what was found instead."""
    if holds:
        print(f"ok   {what}", flush=True)
        return
    print(f"FAIL {what}", flush=True)
    for item in found:
        print(f"     found {item!r}", flush=True)
    sys.exit(1)


def equal(what, found, expected):
    check(what, found == expected, found, {"expected": expected})


def raises(what, error, act):
    """The error that the client's library makes of a refusal."""
    try:
        result = act()
    except error as raised:
        print(f"ok   {what}", flush=True)
        return raised
    check(f"{what}: {error.__name__}", False, result)


def within(seconds, what, attempt):
    """Tries until it is true; for what a server may do a moment later."""
    deadline = time.monotonic() + seconds
    while not (found := attempt()):
        if time.monotonic() > deadline:
            check(f"{what} within {seconds} s", False, found)
        time.sleep(0.05)
    print(f"ok   {what}", flush=True)
    return found


def claims(token):
    """What a token says, unchecked."""
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
