"""Why a change to the records is refused, beside `gateway.errors.InvalidRequest`.

ClientFault
├── EndpointNotAllowed   400 endpoint_not_allowed: the message names the field
├── RecordNotFound       404 not_found
├── DefinedInFile        409 defined_in_file: the message names FILE:LINE
└── AlreadyThere         409 already_exists
"""

from __future__ import annotations

from gateway.errors import ClientFault


class EndpointNotAllowed(ClientFault):
    status, code = 400, "endpoint_not_allowed"


class RecordNotFound(ClientFault):
    status, code = 404, "not_found"


class DefinedInFile(ClientFault):
    status, code = 409, "defined_in_file"


class AlreadyThere(ClientFault):
    status, code = 409, "already_exists"
