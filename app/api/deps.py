"""What routes ask for, as annotated dependencies. All are coroutines: FastAPI would run each other one in a thread."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Query, Request

from app.api.schemas import EmptyQuery
from app.errors import InvalidRequestError
from app.names import label_from_path
from app.recognition.recognizer import Recognizer
from app.service.await_store import started
from app.service.service import Service


async def get_service(request: Request) -> Service:
    """The running parts, put there by the lifespan. Raises NotReadyError while the database is waited for."""
    return started(request.app)


async def get_recognizer(service: ServiceDep) -> Recognizer:
    """The use cases."""
    return service.recognizer


async def get_label(
    label: Annotated[
        str, Path(description="The label, percent-encoded as one segment (`/` is `%2F`).", examples=["alpha"])
    ],
) -> str:
    """The label in the path, decoded and normalised as when it was enrolled."""
    try:
        return label_from_path(label)
    except ValueError as error:
        raise InvalidRequestError.at("path", "label", message=str(error)) from None


ServiceDep = Annotated[Service, Depends(get_service)]
RecognizerDep = Annotated[Recognizer, Depends(get_recognizer)]
LabelDep = Annotated[str, Depends(get_label)]
#: For routes without query parameters: a mistyped or misplaced one is refused instead of ignored.
NoQueryDep = Annotated[EmptyQuery, Query()]
