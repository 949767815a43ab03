"""Makes schemas.json, the JSON Schemas of the OCSF 1.8.0 classes that Guard maps to.

Run once, with the PyPI package that bundles OCSF's own metaschema:
    pip install ocsf-json-schema==1.2.0 && python generate.py > schemas.json

The package's schemas as they are, less what does not validate (titles, deprecation marks) and less
every optional attribute whose object is not in OBJECTS: Guard writes none of them, and an attribute
that is not described is refused. Objects that the classes share are stored once.
"""

import json

from ocsf_json_schema.embedded import OcsfJsonSchemaEmbedded
from ocsf_json_schema.loader import get_ocsf_schema

VERSION = "1.8.0"
PROFILES = ["host", "security_control"]
CLASSES = [
    "file_activity",
    "kernel_extension_activity",
    "kernel_activity",
    "module_activity",
    "process_activity",
    "event_log_actvity",  # OCSF's own spelling
    "detection_finding",
    "authentication",
    "entity_management",
    "network_activity",
    "application_lifecycle",
    "api_activity",
]
OBJECTS = {
    "actor", "analytic", "api", "application", "authorization", "device", "file", "finding_info",
    "fingerprint", "group", "kernel", "kernel_driver", "managed_entity", "metadata", "module",
    "network_connection_info", "network_endpoint", "network_traffic", "object", "os", "policy",
    "process", "process_entity", "product", "request", "resource_details", "response", "service",
    "session", "user",
}
NOISE = {"title", "deprecated", "description"}


def lean(node, is_properties=False):
    if isinstance(node, list):
        return [lean(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: lean(value, key in ("properties", "$defs"))
        for key, value in sorted(node.items())
        if is_properties or key not in NOISE
    }


def is_written(attribute):
    """Whether Guard may write it: anything but an object that is not in OBJECTS."""
    reference = attribute.get("items", attribute).get("$ref", "")
    return not reference or reference.removeprefix("#/$defs/") in OBJECTS


def prune(schema):
    attributes = schema.get("properties", {})
    schema["properties"] = {name: value for name, value in attributes.items() if is_written(value)}
    missing = set(schema.get("required", [])) - set(schema["properties"])
    assert not missing, missing
    return schema


def main():
    ocsf = get_ocsf_schema(VERSION)
    embedded = OcsfJsonSchemaEmbedded(ocsf)
    classes, defs = {}, {}
    for name in CLASSES:
        schema = lean(embedded.get_class_schema(name, PROFILES))
        schema = prune(schema)
        for key, value in schema.pop("$defs").items():
            if key not in OBJECTS:
                continue
            value = prune(value)
            assert defs.setdefault(key, value) == value, key
        for key in ("$id", "$schema"):
            del schema[key]
        classes[str(ocsf["classes"][name]["uid"])] = schema
    defs = dict(sorted(defs.items()))
    print("{\n\"version\": %s,\n\"classes\": {" % json.dumps(VERSION))
    rows(classes)
    print("},\n\"$defs\": {")
    rows(defs)
    print("}\n}")


def rows(table):
    """One row a schema, so that a diff shows which one changed."""
    lines = [f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in table.items()]
    print(",\n".join(lines))


main()
