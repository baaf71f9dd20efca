"""azure-mgmt-appcontainers: session pools made, read, changed, listed and deleted over https, and used through their endpoint."""

import json

import requests
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity import DefaultAzureCredential
from azure.mgmt.appcontainers import ContainerAppsAPIClient
from azure.mgmt.appcontainers.models import (
    DynamicPoolConfiguration,
    LifecycleConfiguration,
    ScaleConfiguration,
    SessionNetworkConfiguration,
    SessionPool,
    SessionPoolProperties,
    SessionPoolUpdatableProperties,
    SessionPoolUpdatablePropertiesProperties,
)
from langchain_azure_dynamic_sessions import SessionsBashTool, SessionsPythonREPLTool

from expect import GROUP, HTTP, HTTPS, SUBSCRIPTION, check, equal, raises, say, within

SCOPES = ["https://management.azure.com/.default"]
NAME = "e2epool"


def refuses(tool):
    try:
        tool.invoke("1")
    except requests.HTTPError as error:
        return error.response.status_code == 404
    return False


def lifecycle(cooldown):
    timed = LifecycleConfiguration(lifecycle_type="Timed", cooldown_period_in_seconds=cooldown)
    return DynamicPoolConfiguration(lifecycle_configuration=timed)


def wanted(kind="PythonLTS", sessions=10, cooldown=300):
    return SessionPool(
        location="local",
        tags={"made-by": "e2e"},
        properties=SessionPoolProperties(
            container_type=kind,
            pool_management_type="Dynamic",
            scale_configuration=ScaleConfiguration(max_concurrent_sessions=sessions, ready_session_instances=1),
            dynamic_pool_configuration=lifecycle(cooldown),
            session_network_configuration=SessionNetworkConfiguration(status="EgressDisabled"),
        ),
    )


client = ContainerAppsAPIClient(DefaultAzureCredential(), SUBSCRIPTION, base_url=HTTPS, credential_scopes=SCOPES)
pools = client.container_apps_session_pools
say(f"control plane at {HTTPS}, api-version {client._config.api_version}")

raises("a pool that is not there", ResourceNotFoundError, lambda: pools.get(GROUP, NAME))
made = pools.begin_create_or_update(GROUP, NAME, wanted()).result(60)
equal("a pool is made", (made.name, made.type.lower(), made.location, dict(made.tags)),
      (NAME, "microsoft.app/sessionpools", "local", {"made-by": "e2e"}))
equal("it is ready", made.properties.provisioning_state, "Succeeded")
equal("as it was wanted", (made.properties.container_type, made.properties.scale_configuration.max_concurrent_sessions), ("PythonLTS", 10))
equal("its id", made.id.lower(),
      f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.App/sessionPools/{NAME}".lower())
endpoint = made.properties.pool_management_endpoint
check("it has a management endpoint", endpoint and endpoint.startswith("http"), endpoint)
say(endpoint)

tool = SessionsPythonREPLTool(pool_management_endpoint=endpoint)
equal("which runs code at once", json.loads(tool.invoke("6 * 7"))["result"], 42)

got = pools.get(GROUP, NAME)
equal("GET gives the same", got.as_dict(), made.as_dict())
check("it is listed in its group", NAME in [pool.name for pool in pools.list_by_resource_group(GROUP)])
check("and in its subscription", NAME in [pool.name for pool in pools.list_by_subscription()])

change = SessionPoolUpdatableProperties(
    properties=SessionPoolUpdatablePropertiesProperties(
        scale_configuration=ScaleConfiguration(max_concurrent_sessions=20),
        dynamic_pool_configuration=lifecycle(600),
    ),
    tags={"made-by": "e2e", "changed": "yes"},
)
changed = pools.begin_update(GROUP, NAME, change).result(60)
timed = changed.properties.dynamic_pool_configuration.lifecycle_configuration
equal("PATCH changes what it says", (changed.properties.scale_configuration.max_concurrent_sessions, timed.cooldown_period_in_seconds), (20, 600))
equal("and the tags", dict(pools.get(GROUP, NAME).tags), {"made-by": "e2e", "changed": "yes"})
tool.invoke("kept = 1")
pools.begin_create_or_update(GROUP, NAME, wanted(sessions=30, cooldown=600)).result(60)
equal("PUT over an existing pool changes it", pools.get(GROUP, NAME).properties.scale_configuration.max_concurrent_sessions, 30)
equal("and its sessions go on", json.loads(tool.invoke("kept"))["result"], 1)

bad = raises("a cooldown of 5 s", HttpResponseError, lambda: pools.begin_create_or_update(GROUP, NAME, wanted(cooldown=5)).result(60))
check("is refused with a reason", bad.status_code == 400 and bad.error and bad.error.message, bad.status_code, str(bad))
raises("another kind for an existing pool", HttpResponseError, lambda: pools.begin_create_or_update(GROUP, NAME, wanted("Shell")).result(60))

shell = pools.begin_create_or_update(GROUP, "e2eshell", wanted("Shell")).result(60)
bash = SessionsBashTool(pool_management_endpoint=shell.properties.pool_management_endpoint)
equal("a Shell pool runs commands", json.loads(bash.invoke("echo hello"))["stdout"], "hello\n")

plain = ContainerAppsAPIClient(DefaultAzureCredential(), SUBSCRIPTION, base_url=HTTP, credential_scopes=SCOPES)
over_http = plain.container_apps_session_pools.get(GROUP, NAME, enforce_https=False)
equal("the same over http", over_http.properties.scale_configuration.max_concurrent_sessions, 30)

for name in (NAME, "e2eshell"):
    pools.begin_delete(GROUP, name).result(60)
    raises(f"{name} is deleted", ResourceNotFoundError, lambda name=name: pools.get(GROUP, name))
within(10, "its endpoint answers no more", lambda: refuses(tool))
