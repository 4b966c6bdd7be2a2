"""Scaleway's typed errors, ready to be raised from a handler (sources: docs/scaleway-facts.md#errors)."""

from __future__ import annotations

from typing import Any

from sandbox.httpd import Reply, Response


def typed(status: int, kind: str, message: str, **more: Any) -> Reply:
    """An error with a `type`, as every error of the API has one."""
    return Reply(Response.json({"type": kind, "message": message, **more}, status))


def not_found(resource: str, resource_id: str) -> Reply:
    """404: there is no such thing (any more)."""
    return typed(404, "not_found", "resource is not found", resource=resource, resource_id=resource_id)


def invalid(argument: str, help_message: str, reason: str = "constraint") -> Reply:
    """400: this argument is wrong."""
    details = [{"argument_name": argument, "reason": reason, "help_message": help_message}]
    return typed(400, "invalid_arguments", "invalid argument(s)", details=details)


def malformed(message: str) -> Reply:
    """400: the request itself is wrong."""
    return typed(400, "invalid_request_error", message)


def denied(reason: str) -> Reply:
    """401: no key, or none that exists."""
    return typed(401, "denied_authentication", "authentication is denied", method="api_key", reason=reason)


def forbidden(action: str, resource: str) -> Reply:
    """403: the key is known but may not do this."""
    details = [{"action": action, "resource": resource}]
    return typed(403, "permissions_denied", "insufficient permissions", details=details)


def quota(resource: str, allowed: int, current: int) -> Reply:
    """403 (older API: 403 "Quota exceeded for this resource.")."""
    details = [{"resource": resource, "quota": allowed, "current": current}]
    return typed(403, "quotas_exceeded", "quota(s) exceeded for this resource", details=details)


def out_of_stock(resource: str) -> Reply:
    """412, as people saw it from POST servers in October 2026; [?] at poweron."""
    return typed(412, "out_of_stock", "resource is out of stock", resource=resource)


def precondition(message: str, **more: Any) -> Reply:
    """412: not in this state (scaleway-cli#4827: "server should be stopped")."""
    return typed(412, "precondition_failed", message, **more)


def transient(resource: str, resource_id: str, state: str) -> Reply:
    """409 [?]: something else is still going on."""
    return typed(
        409,
        "transient_state",
        "resource is in a transient state",
        resource=resource,
        resource_id=resource_id,
        current_state=state,
    )


def block_down(status: int) -> Reply:
    """Block Storage alone is down (any 5xx [?]: none was recorded), or refuses this key (403)."""
    if status == 403:
        return forbidden("read", "block_volume")
    return typed(status, "internal_error", "service unavailable")
