"""Make a `Usage` of an upstream's counts, whatever its protocol.

What the counts mean is the contract's §14: a part over its whole is cut to it, and cached tokens are text first, then
audio, then images, where no crossing is reported.
"""

from __future__ import annotations

import msgspec

from gateway.types import Usage, UsageDetails

USUAL_TIERS = frozenset(("", "default", "standard", "auto"))
_NO_DETAILS = UsageDetails()


class Counts(msgspec.Struct, gc=False):
    """The counts of a report, each as it was reported.

    `prompt`, all of the input: cached, written, audio and images are within; `completion`, all of the output.
    """

    prompt: int | None = None
    completion: int | None = None
    total: int | None = None
    cached: int = 0
    cached_audio: int = 0  # where a crossing is reported
    cached_image: int = 0
    cache_write: int = 0  # for five minutes
    cache_write_1h: int = 0
    cache_write_12h: int = 0
    audio_input: int = 0
    image_input: int = 0
    reasoning: int = 0
    audio_output: int = 0
    image_output: int = 0
    audio_seconds: float = 0.0
    web_search: int = 0
    file_search: int = 0
    code_interpreter: int = 0
    web_fetch: int = 0
    service_tier: str | None = None

    def usage(self) -> Usage | None:
        """Make the usage; None where nothing was counted."""
        if self.prompt is self.completion is self.total is None and not self.audio_seconds:
            return None
        prompt, completion = self.prompt or 0, self.completion or 0
        reasoning = self.reasoning
        if reasoning and self.total == prompt + completion + reasoning:
            completion += reasoning  # xAI and Gemini report it beside the completion
        cached = min(self.cached, prompt)
        details = self._details(prompt, completion, cached)
        return Usage(
            prompt_tokens=prompt,
            completion_tokens=completion,
            total_tokens=max(self.total or 0, prompt + completion),
            cached_tokens=cached,
            reasoning_tokens=min(reasoning, completion),
            details=None if details == _NO_DETAILS else details,
        )

    def _details(self, prompt: int, completion: int, cached: int) -> UsageDetails:
        audio = min(self.audio_input, prompt)
        image = min(self.image_input, prompt - audio)
        cached_audio, cached_image = self._cached(prompt - audio - image, audio, image, cached)
        left = prompt - cached
        write_12h = min(self.cache_write_12h, left)
        write_1h = min(self.cache_write_1h, left - write_12h)
        spoken = completion - min(self.reasoning, completion)
        audio_output = min(self.audio_output, spoken)
        return UsageDetails(
            cached_audio_tokens=cached_audio,
            cached_image_tokens=cached_image,
            cache_write_tokens=min(self.cache_write, left - write_12h - write_1h),
            cache_write_1h_tokens=write_1h,
            cache_write_12h_tokens=write_12h,
            audio_input_tokens=audio,
            image_input_tokens=image,
            audio_output_tokens=audio_output,
            image_output_tokens=min(self.image_output, spoken - audio_output),
            audio_seconds=self.audio_seconds,
            web_search=self.web_search,
            file_search=self.file_search,
            code_interpreter=self.code_interpreter,
            web_fetch=self.web_fetch,
            service_tier=None if self.service_tier in USUAL_TIERS else self.service_tier,
        )

    def _cached(self, text: int, audio: int, image: int, cached: int) -> tuple[int, int]:
        """Return the cached audio and images.

        As reported; the rest is text first.
        """
        of_audio = min(self.cached_audio, audio, cached)
        of_image = min(self.cached_image, image, cached - of_audio)
        left = max(0, cached - of_audio - of_image - text)
        more_audio = min(left, audio - of_audio)
        return of_audio + more_audio, of_image + left - more_audio
