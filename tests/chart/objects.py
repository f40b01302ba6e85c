"""What stands in the objects that a chart makes."""

from typing import Any

Object = dict[str, Any]
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob")


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    return [one for one in objects if one["kind"] in kinds]


def named(objects: list[Object], kind: str, name: str) -> Object:
    (found,) = [one for one in of_kind(objects, kind) if one["metadata"]["name"] == name]
    return found


def template(workload: Object) -> Object:
    """What its pods are made from."""
    spec: Object = workload["spec"]
    found: Object = (spec["jobTemplate"]["spec"] if workload["kind"] == "CronJob" else spec)["template"]
    return found


def pod(workload: Object) -> Object:
    spec: Object = template(workload)["spec"]
    return spec


def container(workload: Object) -> Object:
    (only,) = pod(workload)["containers"]
    found: Object = only
    return found


def environment(workload: Object) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container(workload)["env"]}


def files(workload: Object) -> dict[str, tuple[str, str]]:
    """Return each file that comes from a Secret, with the Secret and its key."""
    mounts = {each["name"]: each["mountPath"] for each in container(workload)["volumeMounts"]}
    return {
        f"{mounts[volume['name']]}/{item['path']}": (volume["secret"]["secretName"], item["key"])
        for volume in pod(workload)["volumes"]
        if "secret" in volume
        for item in volume["secret"]["items"]
    }


def selects(selector: dict[str, str], workload: Object) -> bool:
    labels: dict[str, str] = template(workload)["metadata"]["labels"]
    return selector.items() <= labels.items()
