"""The tables of calls as they are now, and the step that leads there from the wide table before them. Text only.

    calls    one narrow row per receipt: its id, its moment, its figures, and numbers of its caller and its kind
    callers  who asks and for what: key, team, feature, prompt. Many calls have the same one
    kinds    what else repeats: model, target, status, how it ended, what the provider called itself
    sums     what the calls of a quarter of an hour or of a day (UTC) sum up to, by a dimension or by all of them
    rolled   which quarters and days have sums, and by what. Whatever has no row here is summed from the calls

A row of `rolled` says that the sums are right; whoever adds, changes or deletes a call of that time takes the row away in
the same transaction. So sums are never wrong, only missing, and are made again by `rolling.py`.

For people there are the views `call_log` (newest first) and `try_log`, with ids as text, dollars, ISO times and NULL for
what is not there:

    sqlite3 ledger.db "select started_at, feature, model, cost_usd from call_log limit 20"
"""

_VIEWS_BEFORE = ("DROP VIEW try_log", "DROP VIEW tries", "DROP VIEW call_log")

_TABLES = (
    "ALTER TABLE calls RENAME TO wide_calls",
    """
    CREATE TABLE callers (
        id INTEGER PRIMARY KEY,
        key_id TEXT NOT NULL,
        team TEXT NOT NULL,
        feature TEXT NOT NULL,
        prompt TEXT NOT NULL,
        UNIQUE (key_id, team, feature, prompt)
    )
    """,
    """
    CREATE TABLE kinds (
        id INTEGER PRIMARY KEY,
        dialect TEXT NOT NULL,
        model TEXT NOT NULL,
        target TEXT NOT NULL,
        status TEXT NOT NULL,
        http_status INTEGER NOT NULL,
        streamed INTEGER NOT NULL,
        error TEXT NOT NULL,
        error_origin TEXT NOT NULL,
        finish_reason TEXT NOT NULL,
        usage_source TEXT NOT NULL,
        cost_status TEXT NOT NULL,
        lane TEXT NOT NULL,
        cache TEXT NOT NULL,
        config_hash TEXT NOT NULL,
        price_version TEXT NOT NULL,
        response_model TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        service_tier TEXT NOT NULL,
        UNIQUE (model, target, dialect, status, http_status, streamed, error, error_origin, finish_reason,
            usage_source, cost_status, lane, cache, config_hash, price_version, response_model, fingerprint, service_tier)
    )
    """,
    """
    CREATE TABLE calls (
        id BLOB NOT NULL PRIMARY KEY,
        started_ns INTEGER NOT NULL,
        caller INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        user TEXT NOT NULL,
        session TEXT NOT NULL,
        input_tokens INTEGER NOT NULL,
        cached_input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        reasoning_tokens INTEGER NOT NULL,
        cost_nano_usd INTEGER,
        ttft_us INTEGER,
        total_us INTEGER NOT NULL,
        cache_saved_nano_usd INTEGER NOT NULL,
        routing_saved_nano_usd INTEGER NOT NULL,
        try_started_us INTEGER NOT NULL,
        try_ttft_us INTEGER,
        try_total_us INTEGER NOT NULL,
        response_id TEXT NOT NULL,
        tries TEXT NOT NULL,
        more TEXT NOT NULL
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE sums (
        dims INTEGER NOT NULL,
        quarters INTEGER NOT NULL,
        quarter INTEGER NOT NULL,
        feature TEXT NOT NULL,
        model TEXT NOT NULL,
        team TEXT NOT NULL,
        user TEXT NOT NULL,
        key_id TEXT NOT NULL,
        target TEXT NOT NULL,
        prompt TEXT NOT NULL,
        calls INTEGER NOT NULL,
        input_tokens INTEGER NOT NULL,
        cached_input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        cost_nano_usd INTEGER NOT NULL,
        unpriced INTEGER NOT NULL,
        estimated INTEGER NOT NULL,
        exact INTEGER NOT NULL,
        cache_saved_nano_usd INTEGER NOT NULL,
        routing_saved_nano_usd INTEGER NOT NULL,
        PRIMARY KEY (dims, quarters, quarter, feature, model, team, user, key_id, target, prompt)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE rolled (
        quarters INTEGER NOT NULL,
        quarter INTEGER NOT NULL,
        dims INTEGER,
        maker INTEGER NOT NULL,
        PRIMARY KEY (quarters, quarter)
    ) WITHOUT ROWID
    """,
)

# Whoever deletes or corrects calls by hand has them summed anew. Added are they by the program alone, which knows this.
_TRIGGERS = (
    """
    CREATE TRIGGER calls_deleted AFTER DELETE ON calls BEGIN
        DELETE FROM rolled WHERE quarters = 1 AND quarter = old.started_ns / 900000000000;
        DELETE FROM rolled WHERE quarters = 96 AND quarter = old.started_ns / 86400000000000 * 96;
    END
    """,
    """
    CREATE TRIGGER calls_changed AFTER UPDATE ON calls BEGIN
        DELETE FROM rolled WHERE quarters = 1
            AND quarter IN (old.started_ns / 900000000000, new.started_ns / 900000000000);
        DELETE FROM rolled WHERE quarters = 96
            AND quarter IN (old.started_ns / 86400000000000 * 96, new.started_ns / 86400000000000 * 96);
    END
    """,
    "CREATE TRIGGER callers_changed AFTER UPDATE ON callers BEGIN DELETE FROM rolled; END",
    "CREATE TRIGGER kinds_changed AFTER UPDATE ON kinds BEGIN DELETE FROM rolled; END",
)

_VIEWS = (
    """
    CREATE VIEW call_log AS SELECT
        lower(substr(hex(calls.id), 1, 8) || '-' || substr(hex(calls.id), 9, 4) || '-' || substr(hex(calls.id), 13, 4)
            || '-' || substr(hex(calls.id), 17, 4) || '-' || substr(hex(calls.id), 21)) AS call,
        strftime('%Y-%m-%dT%H:%M:%S', started_ns / 1000000000, 'unixepoch')
            || printf('.%03dZ', started_ns / 1000000 % 1000) AS started_at,
        status, http_status, nullif(team, '') AS team, nullif(feature, '') AS feature, nullif(user, '') AS user,
        nullif(key_id, '') AS key_id, nullif(session, '') AS session, model, nullif(target, '') AS target, dialect,
        streamed, nullif(finish_reason, '') AS finish_reason,
        input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, usage_source,
        CASE WHEN cost_nano_usd IS NOT NULL THEN rtrim(rtrim(
            printf('%d.%09d', cost_nano_usd / 1000000000, cost_nano_usd % 1000000000), '0'), '.') END AS cost_usd,
        cost_status, ttft_us / 1000.0 AS ttft_ms, total_us / 1000.0 AS total_ms,
        CASE tries WHEN '' THEN 1 ELSE json_array_length(tries) END AS tries,
        nullif(error, '') AS error, nullif(error_origin, '') AS error_origin,
        nullif(lane, '') AS lane, cache, nullif(prompt, '') AS prompt, config_hash,
        rtrim(rtrim(printf('%d.%09d', cache_saved_nano_usd / 1000000000, cache_saved_nano_usd % 1000000000), '0'), '.')
            AS cache_saved_usd,
        rtrim(rtrim(printf('%s%d.%09d', CASE WHEN routing_saved_nano_usd < 0 THEN '-' ELSE '' END,
            abs(routing_saved_nano_usd) / 1000000000, abs(routing_saved_nano_usd) % 1000000000), '0'), '.')
            AS routing_saved_usd,
        more
    FROM calls CROSS JOIN callers ON callers.id = calls.caller CROSS JOIN kinds ON kinds.id = calls.kind
    ORDER BY calls.id DESC
    """,
    """
    CREATE VIEW tries AS SELECT
        calls.id AS call_id, 0 AS n, target, 'first' AS kind, status, http_status, nullif(error, '') AS error,
        NULL AS retry_after_ms, try_started_us AS started_us, try_ttft_us AS ttft_us, try_total_us AS total_us,
        input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, usage_source, cost_nano_usd, cost_status,
        price_version, response_id, response_model, nullif(fingerprint, '') AS fingerprint,
        nullif(service_tier, '') AS service_tier
    FROM calls CROSS JOIN kinds ON kinds.id = calls.kind WHERE calls.tries = ''
    UNION ALL SELECT
        calls.id,
        t.key,
        json_extract(t.value, '$[0]'),
        json_extract(t.value, '$[1]'),
        json_extract(t.value, '$[2]'),
        json_extract(t.value, '$[3]'),
        json_extract(t.value, '$[4]'),
        json_extract(t.value, '$[5]'),
        json_extract(t.value, '$[6]'),
        json_extract(t.value, '$[7]'),
        json_extract(t.value, '$[8]'),
        json_extract(t.value, '$[9][0]'),
        json_extract(t.value, '$[9][2]'),
        json_extract(t.value, '$[9][1]'),
        json_extract(t.value, '$[9][5]'),
        json_extract(t.value, '$[9][10]'),
        json_extract(t.value, '$[10]'),
        json_extract(t.value, '$[11]'),
        json_extract(t.value, '$[12]'),
        json_extract(t.value, '$[13]'),
        json_extract(t.value, '$[14]'),
        json_extract(t.value, '$[15]'),
        json_extract(t.value, '$[16]')
    FROM calls, json_each(calls.tries) AS t WHERE calls.tries <> ''
    """,
    """
    CREATE VIEW try_log AS SELECT
        lower(substr(hex(call_id), 1, 8) || '-' || substr(hex(call_id), 9, 4) || '-' || substr(hex(call_id), 13, 4)
            || '-' || substr(hex(call_id), 17, 4) || '-' || substr(hex(call_id), 21)) AS call,
        n, kind, target, status, http_status, error, started_us / 1000.0 AS started_ms, ttft_us / 1000.0 AS ttft_ms,
        total_us / 1000.0 AS total_ms, input_tokens, cached_input_tokens, output_tokens,
        reasoning_tokens, usage_source,
        CASE WHEN cost_nano_usd IS NOT NULL THEN rtrim(rtrim(
            printf('%d.%09d', cost_nano_usd / 1000000000, cost_nano_usd % 1000000000), '0'), '.') END AS cost_usd,
        cost_status, price_version, response_id, response_model, fingerprint, service_tier, retry_after_ms
    FROM tries
    """,
)

NARROW_CALLS = (*_VIEWS_BEFORE, *_TABLES, *_TRIGGERS, *_VIEWS)
"""The step to narrow calls. What stands in `wide_calls` is moved when a store is opened, a piece at a time."""
