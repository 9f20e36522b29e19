"""What can go wrong in a turn, as one sentence that a person in the room can act on."""


class Failure(Exception):
    """A foreseen end of a turn. `code`: model-unavailable, denied, budget, too-long, error. `retry`: the same
    question may work later."""

    def __init__(self, sentence: str, *, code: str = "error", retry: bool = False) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.code = code
        self.retry = retry


STEPS_USED_UP = "I stopped because this question took too many steps; please ask for less at once."
BROKEN_ANSWER = "The model sent an answer that I could not use; please ask again."
NO_MODEL = "The model does not answer; please try again in a moment."


def of_model_status(status: int, body: object, model: str) -> Failure:
    """The failure that an HTTP status of the gateway or of the provider behind it means."""
    text = str(body).lower()
    if status in (400, 413) and ("context" in text or "too long" in text or status == 413):
        return Failure("This conversation is too long for the model; please start a new thread.", code="too-long")
    if status == 401:
        return Failure("The gateway did not accept my token; an operator should restart me.", code="denied")
    if status == 403:
        return Failure(f"I am not allowed to use the model {model}.", code="denied")
    if status == 404:
        return Failure(f"The gateway knows no model {model}; an operator should correct my declaration.", code="denied")
    if status == 429:
        return Failure(f"The budget or rate limit for the model {model} is used up.", code="budget")
    if status >= 500:
        return Failure(
            f"The model {model} is not available now (status {status}).", code="model-unavailable", retry=True
        )
    return Failure(f"The model {model} refused the request (status {status}).")
