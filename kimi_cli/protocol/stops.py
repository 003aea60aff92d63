"""Why a turn ended."""

from enum import StrEnum


class StopReason(StrEnum):
    """The reasons a turn can end; the command line maps each to one exit code."""

    DONE = "done"
    VERIFY_FAILED = "verify_failed"
    SCHEMA_FAILED = "schema_failed"
    EMPTY_ANSWER = "empty_answer"
    ENDLESS_ANSWER = "endless_answer"
    REPEATED_CALLS = "repeated_calls"
    CONFIGURATION = "configuration"
    MODEL_MISSING = "model_missing"
    STEP_LIMIT = "step_limit"
    TOKEN_LIMIT = "token_limit"
    COST_LIMIT = "cost_limit"
    TIME_LIMIT = "time_limit"
    CONTEXT_TOO_LONG = "context_too_long"
    QUESTION = "question"
    AUTHENTICATION = "authentication"
    QUOTA = "quota"
    CONTENT_FILTER = "content_filter"
    INTERNAL = "internal_error"
    STORE_FAILED = "store_failed"
    TEMPORARY = "temporary"
    INTERRUPTED = "interrupted"
    TERMINATED = "terminated"
