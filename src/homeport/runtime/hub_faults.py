"""What can go wrong with the Hugging Face hub, in words that say what to do next.

The hub answers 401 for a repository that does not exist as for one that is private, and 403 for a gated
one; huggingface_hub tells them apart by a header where the hub sends it.
"""

import contextlib
from collections.abc import Iterator

from homeport.errors import HomeportError


class PullError(HomeportError):
    """A model could not be loaded; ``hint`` is the next step."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


class UnreachableError(PullError):
    """The hub does not answer at all."""


def not_a_hub(error: Exception) -> PullError:
    """Something else answers."""
    from huggingface_hub import constants

    return PullError(
        f"{constants.ENDPOINT} does not answer as a Hugging Face hub: {_reason(error)}",
        hint="is HF_ENDPOINT right? A proxy or a login page may answer in its place",
    )


@contextlib.contextmanager
def faults_of_the_hub(repo: str) -> Iterator[None]:
    """Says in our words what huggingface_hub and the network raise."""
    import httpx2
    from huggingface_hub import constants, errors, get_token

    hub = constants.ENDPOINT
    account = f"{hub}/settings/tokens"
    has_token = get_token() is not None
    try:
        yield
    except errors.GatedRepoError:
        terms = f"accept its terms at {hub}/{repo}"
        raise PullError(
            f"{repo} is gated: its owner decides who may load it",
            hint=f"{terms} with the account that your token is of"
            if has_token
            else f"{terms}, make a token at {account}, and set HF_TOKEN to it",
        ) from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        is_hidden = status == 401 and not has_token
        if isinstance(error, errors.RepositoryNotFoundError) or is_hidden:
            message = f"there is no {repo} at {hub}, or you may not see it"
            may = "the token has to be of an account that may" if has_token else "set HF_TOKEN"
            raise PullError(message, hint=f"check the name; for a private one {may}") from None
        hint = "try again later"
        if status in (401, 403):
            hint = (
                f"your token (HF_TOKEN, or that of `hf auth login`) is not accepted: {account}"
                if has_token
                else f"make a token at {account}, and set HF_TOKEN to it"
            )
        raise PullError(f"{hub} answered {status} for {repo}", hint=hint) from None
    except (httpx2.TransportError, errors.LocalEntryNotFoundError) as error:
        raise UnreachableError(
            f"cannot reach {hub}: {_reason(error)}",
            hint="check the network; HTTPS_PROXY names a proxy, HF_ENDPOINT a mirror",
        ) from None
    except (errors.FileMetadataError, httpx2.HTTPError) as error:
        raise not_a_hub(error) from None
    except OSError as error:  # ours: the disk is full, the folder is not writable
        raise PullError(f"cannot write to the cache: {error}") from error


def _reason(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
