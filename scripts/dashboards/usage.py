"""From the database: who used what, how much of it, what was slow, what failed. Every request counts.

A variable's ``everything`` is the column itself: ``model IN (model)`` holds for every row.
"""

from typing import Final

from homeport.store import sql
from scripts.dashboards.grafana import (
    DATABASE,
    Dashboard,
    Section,
    graph,
    sql_series,
    sql_table,
    stat,
    table,
    variable,
)
from scripts.dashboards.questions import TOKENS_PER_S

# Requests without a key, and clients without a user agent, have an empty text there, which nobody could
# choose from a list.
KEY: Final = "coalesce(nullif(key, ''), '(none)')"
CLIENT: Final = "coalesce(nullif(client, ''), '(none)')"

CHOSEN: Final = (
    f"$__timeFilter(at) AND model IN ($model) AND {KEY} IN ($key) AND {CLIENT} IN ($client)"
)
FAILED: Final = "error IS NOT NULL AND error <> 'left'"
FROM: Final = f"FROM homeport_usage\nWHERE {CHOSEN}"

COUNTS: Final = f"""\
count(*) AS "Requests",
  count(*) FILTER (WHERE {FAILED}) AS "Failed",
  coalesce(sum(prompt_tokens), 0)::bigint AS "Prompt tokens",
  sum(cached_tokens)::float / nullif(sum(prompt_tokens), 0) AS "From cache",
  coalesce(sum(completion_tokens), 0)::bigint AS "Answer tokens",
  percentile_cont(0.5) WITHIN GROUP (ORDER BY first_token_s) AS "First token, half within",
  {sql.SPEED} AS "Speed\""""
UNITS: Final = {
    "From cache": "percentunit",
    "First token, half within": "s",
    "Speed": TOKENS_PER_S,
}
COUNTS_SAY: Final = (
    "Failed: ended with an error, clients that left not counted. From cache: share of the prompts' "
    "tokens that the engine did not have to read. First token and speed: of streamed answers; the "
    "speed is all their tokens by all their time."
)


def counts_by(column: str, name: str) -> str:
    return (
        f'SELECT {column} AS "{name}",\n  {COUNTS}\n{FROM}\n'
        'GROUP BY 1 ORDER BY "Prompt tokens" DESC, 1 LIMIT 100'
    )


def tokens_by_day(column: str) -> str:
    return (
        f"SELECT $__timeGroupAlias(at, '1d'), {column} AS metric,\n"
        "  (coalesce(sum(prompt_tokens), 0) + coalesce(sum(completion_tokens), 0))::bigint"
        ' AS "tokens"\n'
        f"{FROM}\nGROUP BY 1, 2 ORDER BY 1"
    )


def choices(column: str) -> str:
    return f"SELECT DISTINCT {column} FROM homeport_usage WHERE $__timeFilter(at) ORDER BY 1"


BY_DAY: Final = f"""\
SELECT $__timeGroupAlias(at, '1d'),
  coalesce(sum(cached_tokens), 0)::bigint AS "prompts, from cache",
  (coalesce(sum(prompt_tokens), 0) - coalesce(sum(cached_tokens), 0))::bigint AS "prompts, read",
  coalesce(sum(completion_tokens), 0)::bigint AS "answers"
{FROM}
GROUP BY 1 ORDER BY 1"""

CACHED_BY_DAY: Final = f"""\
SELECT $__timeGroupAlias(at, '1d'), {CLIENT} AS metric,
  sum(cached_tokens)::float / nullif(sum(prompt_tokens), 0) AS "share"
{FROM} AND prompt_tokens > 0
GROUP BY 1, 2 ORDER BY 1"""

SPEED: Final = f"""\
SELECT $__timeGroupAlias(at, $__interval), model AS metric,
  {sql.SPEED} AS "speed"
{FROM} AND {sql.HAS_SPEED}
GROUP BY 1, 2 ORDER BY 1"""

ERRORS: Final = f"""\
SELECT $__timeGroupAlias(at, $__interval), error AS metric, count(*) AS "requests"
{FROM} AND {FAILED}
GROUP BY 1, 2 ORDER BY 1"""

REQUEST: Final = f"""\
SELECT at AS "When", model AS "Model", {KEY} AS "Key", {CLIENT} AS "Client",
  duration_s AS "Took", waited_s AS "Waited", first_token_s AS "First token",
  prompt_tokens AS "Prompt tokens", cached_tokens AS "Cached", completion_tokens AS "Answer tokens",
  CASE WHEN {sql.HAS_SPEED} THEN tokens_per_s END AS "Speed",
  coalesce(error, stop_reason) AS "Ended with", request_id AS "Request"
{FROM}"""
REQUEST_UNITS: Final = {
    "Took": "s",
    "Waited": "s",
    "First token": "s",
    "Speed": TOKENS_PER_S,
    "When": "dateTimeAsIso",
}

DASHBOARD: Final = Dashboard(
    "homeport-usage",
    "homeport: usage",
    "Who used what, how much of it, what was slow, what failed: from the database, every request.",
    "now-7d",
    (
        variable("model", "Model", DATABASE, choices("model"), everything="model"),
        variable("key", "Key", DATABASE, choices(KEY), everything=KEY),
        variable("client", "Client", DATABASE, choices(CLIENT), everything=CLIENT),
    ),
    (
        Section(
            "All together",
            (
                (
                    stat(
                        "In the chosen time",
                        COUNTS_SAY,
                        sql_table(f"SELECT {COUNTS}\n{FROM}"),
                        units=UNITS,
                        width=24,
                    ),
                ),
                (
                    graph(
                        "Tokens a day",
                        "Days are those of UTC.",
                        sql_series(BY_DAY),
                        unit="short",
                        style="bars",
                        interval="1d",
                    ),
                    graph(
                        "Tokens a day, by model",
                        "Prompts, with what came from the cache, and answers.",
                        sql_series(tokens_by_day("model")),
                        unit="short",
                        style="bars",
                        interval="1d",
                    ),
                ),
            ),
        ),
        Section(
            "Who and what",
            (
                (
                    table(
                        "By model",
                        COUNTS_SAY,
                        sql_table(counts_by("model", "Model")),
                        units=UNITS,
                    ),
                ),
                (
                    table(
                        "By key",
                        COUNTS_SAY,
                        sql_table(counts_by(KEY, "Key")),
                        units=UNITS,
                        width=12,
                    ),
                    table(
                        "By client",
                        COUNTS_SAY,
                        sql_table(counts_by(CLIENT, "Client")),
                        units=UNITS,
                        width=12,
                    ),
                ),
                (
                    graph(
                        "Tokens a day, by key",
                        "Prompts, with what came from the cache, and answers.",
                        sql_series(tokens_by_day(KEY)),
                        unit="short",
                        style="bars",
                        interval="1d",
                    ),
                    graph(
                        "Tokens a day, by client",
                        "Prompts, with what came from the cache, and answers.",
                        sql_series(tokens_by_day(CLIENT)),
                        unit="short",
                        style="bars",
                        interval="1d",
                    ),
                ),
            ),
        ),
        Section(
            "Speed",
            (
                (
                    graph(
                        "Prompts from cache, by client",
                        "Share of prompt tokens that engines did not have to read, by day. A client "
                        "far below the others changes the head of its prompt.",
                        sql_series(CACHED_BY_DAY),
                        unit="percentunit",
                        style="points",
                        top=1,
                        interval="1d",
                    ),
                    graph(
                        "Speed of answers",
                        "Mean of streamed answers, after their first token.",
                        sql_series(SPEED),
                        unit=TOKENS_PER_S,
                        style="points",
                        interval="10m",
                    ),
                ),
                (
                    table(
                        "Slowest requests",
                        "Took: from arrival to end. Waited: for the model to be loaded and free.",
                        sql_table(f"{REQUEST}\nORDER BY duration_s DESC LIMIT 50"),
                        units=REQUEST_UNITS,
                        height=10,
                    ),
                ),
            ),
        ),
        Section(
            "Errors",
            (
                (
                    graph(
                        "Failed, by kind",
                        "Kinds of error as docs/api.md tells them; without clients that left.",
                        sql_series(ERRORS),
                        unit="short",
                        style="bars",
                        width=24,
                        interval="10m",
                    ),
                ),
                (
                    table(
                        "Failed last",
                        "The log has more about each, by its request id.",
                        sql_table(f"{REQUEST} AND {FAILED}\nORDER BY at DESC LIMIT 50"),
                        units=REQUEST_UNITS,
                        height=10,
                    ),
                ),
            ),
        ),
    ),
)
