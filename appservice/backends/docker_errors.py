"""What Docker Engine's refusals and silences mean, in sentences for the operator."""

import requests
from docker.errors import APIError

from appservice.errors import Invalid, OpsroomError, Unavailable

OWN_IMAGES = "opsroom/"
TIMEOUT_S = 30
_START_FIX = "Start it (`systemctl start docker`, or `sudo deploy/scripts/start-docker.sh` where no init system runs)"


def image_missing(image: str) -> Unavailable:
    fix = "Build it: `opsroom image build`." if image.startswith(OWN_IMAGES) else f"Get it: `docker pull {image}`."
    return Unavailable(f"The image {image} is not there.", fix=fix)


def said(error: APIError) -> str:
    return str(error.explanation or error).strip().rstrip(".")


def api_error(error: APIError) -> OpsroomError:
    words = said(error)
    if "bind source path does not exist" in words:
        return Unavailable(
            f"Docker Engine does not see this machine's folders: {words}.",
            fix="Run Opsroom on the machine Docker Engine runs on, or set OPSROOM_AGENTS__BACKEND=process.",
        )
    if error.is_client_error() and error.status_code in (400, 404):
        return Invalid(f"Docker Engine refuses the container: {words}.", fix="Mend what the sentence names.")
    return Unavailable(f"Docker Engine failed: {words}.", fix="Look at its log: `journalctl -u docker`.")


def engine_away(error: Exception) -> Unavailable:
    text = str(error)
    if "PermissionError" in text or "Permission denied" in text:
        return Unavailable(
            "This user may not use Docker Engine.", fix="Add it to the group `docker`, or run Opsroom as root."
        )
    if "too old" in text or "too new" in text:
        return Unavailable(f"Docker Engine speaks another API: {text}.", fix="Install Docker Engine 20.10 or newer.")
    if isinstance(error, requests.exceptions.Timeout):
        return Unavailable(f"Docker Engine did not answer in {TIMEOUT_S} s.", fix="Look at its log and its disk.")
    return Unavailable("Docker Engine does not answer.", fix=f"{_START_FIX}, or use OPSROOM_AGENTS__BACKEND=process.")
