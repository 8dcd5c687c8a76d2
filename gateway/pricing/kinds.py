"""What a request used, by kind."""

from __future__ import annotations

import msgspec


class UsageDetails(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What few answers report: tokens of other kinds, calls, sizes.

    Tokens of input are within the prompt's, of output within the completion's; cached ones within `cached_tokens`.
    """

    cached_audio_tokens: int = 0
    cached_image_tokens: int = 0
    cache_write_tokens: int = 0  # kept for five minutes
    cache_write_1h_tokens: int = 0
    cache_write_12h_tokens: int = 0
    audio_input_tokens: int = 0  # cached ones among them
    image_input_tokens: int = 0
    audio_output_tokens: int = 0
    image_output_tokens: int = 0
    images: int = 0  # made
    audio_seconds: float = 0.0  # as reported
    characters: int = 0  # of the request's `input`, where no tokens are reported
    web_search: int = 0  # calls
    file_search: int = 0
    code_interpreter: int = 0
    web_fetch: int = 0
    service_tier: str | None = None  # None: the usual one


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one answer.

    `cached_tokens` are part of the prompt's, `reasoning_tokens` part of the completion's.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    details: UsageDetails | None = None


class Besides(msgspec.Struct, frozen=True, gc=False):
    """What a request may use besides tokens, at most.

    `calls`: of provider's tools, by component; together no more than `most_calls`.
    """

    images: int = 0
    characters: int = 0
    audio_seconds: int = 0
    calls: dict[str, int] = {}
    most_calls: int = 0
    made_tokens: int = 0  # of output

    def __add__(self, other: Besides) -> Besides:
        names = self.calls.keys() | other.calls.keys()
        return Besides(
            self.images + other.images,
            self.characters + other.characters,
            self.audio_seconds + other.audio_seconds,
            {name: self.calls.get(name, 0) + other.calls.get(name, 0) for name in names},
            self.most_calls + other.most_calls,
            self.made_tokens + other.made_tokens,
        )


NOTHING_BESIDES = Besides()
