"""Dependencies of endpoints: functions of the request, called by the route class (`app.api.door`)."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Query, Request
from pydantic import AfterValidator
from starlette.applications import Starlette

from app.access.gate import Access
from app.api.schemas import EmptyQuery
from app.errors import InvalidRequestError, NotReadyError
from app.names import label_from_path
from app.recognition.recognizer import Recognizer
from app.service.service import Service


def started(app: Starlette) -> Service:
    """The running service of an application. Raises NotReadyError until its database is available."""
    service: Service | None = getattr(app.state, "service", None)
    if service is None:
        raise NotReadyError("The store's database is waited for.")
    return service


def get_service(request: Request) -> Service:
    """The running service, set by the lifespan. Raises NotReadyError until the database is available."""
    return started(request.app)


def get_recognizer(request: Request) -> Recognizer:
    """The use cases."""
    return started(request.app).recognizer


def get_access(request: Request) -> Access:
    """What the request may access."""
    access: Access = request.state.access
    return access


def _label(encoded: str) -> str:
    try:
        return label_from_path(encoded)
    except ValueError as error:
        raise InvalidRequestError.at("path", "label", message=str(error)) from None


ServiceDep = Annotated[Service, Depends(get_service)]
RecognizerDep = Annotated[Recognizer, Depends(get_recognizer)]
AccessDep = Annotated[Access, Depends(get_access)]
#: The label in the path, decoded and normalised as when it was enrolled.
LabelPath = Annotated[
    str,
    Path(description="The label, percent-encoded as one segment (`/` is `%2F`).", examples=["alpha"]),
    AfterValidator(_label),
]
#: For routes without query parameters: an unknown one is refused, not ignored.
NoQueryDep = Annotated[EmptyQuery, Query()]
