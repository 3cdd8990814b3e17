"""The SQL of the store: the steps from one schema to the next, and every statement. Text only.

Statements are constants; values reach them as parameters and never otherwise. A filter that is not asked for is a NULL
parameter. `summing.py` has those that sum calls up.

Times are nanoseconds since the epoch, UTC. Money is nano-dollars; NULL means: no price known. Of the texts the empty one
means: not there. A call's id is the 16 bytes of its UUIDv7, so that rows are added at the end and a span of time is a
span of keys. `schema.py` says what the tables of calls are.
"""

from penstock.ledger.schema import NARROW_CALLS

APPLICATION_ID = 1886614628
"""Marks the file as ours in SQLite's own header: the letters pstd."""
MARK = "PRAGMA application_id = 1886614628"
MARK_OF = "PRAGMA application_id"
TABLES = "SELECT count(*) FROM sqlite_master"

# How long a write waits for another process: not noticeably on the request path, long for a command or a start.
HURRY = "PRAGMA busy_timeout = 1"
WAIT = "PRAGMA busy_timeout = 5000"
WAIT_S = 5

SETTINGS = ("PRAGMA synchronous = NORMAL", "PRAGMA wal_autocheckpoint = 0", "PRAGMA temp_store = MEMORY")
WAL = "PRAGMA journal_mode = WAL"
CHECKPOINT = "PRAGMA wal_checkpoint(PASSIVE)"
SHRINK = "PRAGMA wal_checkpoint(TRUNCATE)"
DATA_VERSION = "PRAGMA data_version"

BEGIN, COMMIT, ROLLBACK = "BEGIN IMMEDIATE", "COMMIT", "ROLLBACK"
BEGIN_READING = "BEGIN DEFERRED"

_VERSION_1 = (
    "CREATE TABLE meta (name TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    "INSERT INTO meta VALUES ('schema', 0), ('keys', 0)",
    """
    CREATE TABLE calls (
        id BLOB NOT NULL PRIMARY KEY,
        started_ns INTEGER,
        dialect TEXT,
        model TEXT,
        status TEXT,
        http_status INTEGER,
        streamed INTEGER,
        key_id TEXT,
        team TEXT,
        feature TEXT,
        user TEXT,
        session TEXT,
        target TEXT,
        error TEXT,
        error_origin TEXT,
        finish_reason TEXT,
        input_tokens INTEGER,
        cached_input_tokens INTEGER,
        output_tokens INTEGER,
        reasoning_tokens INTEGER,
        usage_source TEXT,
        cost_nano_usd INTEGER,
        cost_status TEXT,
        ttft_us INTEGER,
        total_us INTEGER,
        lane TEXT,
        cache TEXT,
        prompt TEXT,
        config_hash TEXT,
        tries TEXT,
        more TEXT
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE keys (
        id TEXT NOT NULL PRIMARY KEY,
        hash BLOB NOT NULL UNIQUE,
        team TEXT,
        feature TEXT,
        label TEXT NOT NULL,
        admin INTEGER NOT NULL,
        created_ns INTEGER NOT NULL,
        expires_ns INTEGER,
        revoked_ns INTEGER
    ) WITHOUT ROWID
    """,
    """
    CREATE VIEW call_log AS SELECT
        lower(substr(hex(id), 1, 8) || '-' || substr(hex(id), 9, 4) || '-' || substr(hex(id), 13, 4) || '-'
            || substr(hex(id), 17, 4) || '-' || substr(hex(id), 21)) AS call,
        strftime('%Y-%m-%dT%H:%M:%S', started_ns / 1000000000, 'unixepoch')
            || printf('.%03dZ', started_ns / 1000000 % 1000) AS started_at,
        status, http_status, nullif(team, '') AS team, nullif(feature, '') AS feature, nullif(user, '') AS user,
        nullif(key_id, '') AS key_id, nullif(session, '') AS session, model, nullif(target, '') AS target, dialect,
        streamed, nullif(finish_reason, '') AS finish_reason,
        input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, usage_source,
        CASE WHEN cost_nano_usd IS NOT NULL THEN rtrim(rtrim(
            printf('%d.%09d', cost_nano_usd / 1000000000, cost_nano_usd % 1000000000), '0'), '.') END AS cost_usd,
        cost_status, ttft_us / 1000.0 AS ttft_ms, total_us / 1000.0 AS total_ms,
        json_array_length(tries) AS tries, nullif(error, '') AS error, nullif(error_origin, '') AS error_origin,
        nullif(lane, '') AS lane, cache, nullif(prompt, '') AS prompt, config_hash, more
    FROM calls
    """,
    """
    CREATE VIEW tries AS SELECT
        calls.id AS call_id,
        t.key AS n,
        json_extract(t.value, '$[0]') AS target,
        json_extract(t.value, '$[1]') AS kind,
        json_extract(t.value, '$[2]') AS status,
        json_extract(t.value, '$[3]') AS http_status,
        json_extract(t.value, '$[4]') AS error,
        json_extract(t.value, '$[5]') AS retry_after_ms,
        json_extract(t.value, '$[6]') AS started_us,
        json_extract(t.value, '$[7]') AS ttft_us,
        json_extract(t.value, '$[8]') AS total_us,
        json_extract(t.value, '$[9][0]') AS input_tokens,
        json_extract(t.value, '$[9][2]') AS cached_input_tokens,
        json_extract(t.value, '$[9][1]') AS output_tokens,
        json_extract(t.value, '$[9][5]') AS reasoning_tokens,
        json_extract(t.value, '$[9][10]') AS usage_source,
        json_extract(t.value, '$[10]') AS cost_nano_usd,
        json_extract(t.value, '$[11]') AS cost_status,
        json_extract(t.value, '$[12]') AS price_version,
        json_extract(t.value, '$[13]') AS response_id,
        json_extract(t.value, '$[14]') AS response_model,
        json_extract(t.value, '$[15]') AS fingerprint
    FROM calls, json_each(calls.tries) AS t
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
        cost_status, price_version, response_id, response_model, fingerprint, retry_after_ms
    FROM tries
    """,
)

_LIMITS_OF_KEYS = (
    "ALTER TABLE keys ADD COLUMN rpm INTEGER",
    "ALTER TABLE keys ADD COLUMN tpm INTEGER",
    "ALTER TABLE keys ADD COLUMN concurrency INTEGER",
)

_IDEMPOTENCY = (
    """
    CREATE TABLE idempotency (
        id BLOB NOT NULL PRIMARY KEY,
        request BLOB NOT NULL,
        owner TEXT NOT NULL,
        until_ns INTEGER NOT NULL,
        status INTEGER,
        headers BLOB,
        body BLOB
    )
    """,
    "CREATE INDEX idempotency_until ON idempotency (until_ns)",
    "CREATE INDEX idempotency_claims ON idempotency (owner) WHERE status IS NULL",
)

_FACTORS = (
    "CREATE TABLE factors (model TEXT NOT NULL PRIMARY KEY, seen INTEGER, mean REAL, variance REAL) WITHOUT ROWID",
)

_BUDGETS_OF_KEYS = (
    "ALTER TABLE keys ADD COLUMN day_nano_usd INTEGER",
    "ALTER TABLE keys ADD COLUMN month_nano_usd INTEGER",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    _VERSION_1,
    _LIMITS_OF_KEYS,
    _IDEMPOTENCY,
    _FACTORS,
    _BUDGETS_OF_KEYS,
    NARROW_CALLS,
)
"""The statements that lead from version i to i + 1. Only ever added to."""

VERSION_OF = "SELECT value FROM meta WHERE name = 'schema'"
SET_VERSION = "UPDATE meta SET value = ? WHERE name = 'schema'"

# -- calls --

TOGETHER = 32
"""Calls that one statement adds: they take a tenth less than each by itself."""
_CALL = "(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
_ADD, _UNLESS_THERE = "INSERT INTO calls VALUES ", " ON CONFLICT (id) DO NOTHING"
ADD_CALL = _ADD + _CALL + _UNLESS_THERE
ADD_CALLS = _ADD + ", ".join([_CALL] * TOGETHER) + _UNLESS_THERE
_PLAIN_CALL = "(?,?,?,?,'','',?,?,?,?,?,?,?,0,0,?,?,?,?,'','')"
ADD_PLAIN_CALLS = _ADD + ", ".join([_PLAIN_CALL] * TOGETHER) + _UNLESS_THERE
"""The same for calls that leave empty what most do: what is not bound need not be copied."""

CALLER_OF = "SELECT id FROM callers WHERE key_id = ? AND team = ? AND feature = ? AND prompt = ?"
ADD_CALLER = "INSERT INTO callers (key_id, team, feature, prompt) VALUES (?,?,?,?)"
KIND_OF = """
    SELECT id FROM kinds
    WHERE dialect = ? AND model = ? AND target = ? AND status = ? AND http_status = ? AND streamed = ? AND error = ?
        AND error_origin = ? AND finish_reason = ? AND usage_source = ? AND cost_status = ? AND lane = ? AND cache = ?
        AND config_hash = ? AND price_version = ? AND response_model = ? AND fingerprint = ? AND service_tier = ?
"""
ADD_KIND = """
    INSERT INTO kinds (dialect, model, target, status, http_status, streamed, error, error_origin, finish_reason,
        usage_source, cost_status, lane, cache, config_hash, price_version, response_model, fingerprint, service_tier)
    VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)
"""

_CALLS = """
    SELECT calls.id, started_ns, key_id, team, feature, prompt, dialect, model, target, status, http_status, streamed,
        error, error_origin, finish_reason, usage_source, cost_status, lane, cache, config_hash, price_version,
        response_model, fingerprint, service_tier, user, session, input_tokens, cached_input_tokens, output_tokens,
        reasoning_tokens, cost_nano_usd, ttft_us, total_us, cache_saved_nano_usd, routing_saved_nano_usd,
        try_started_us, try_ttft_us, try_total_us, response_id, tries, more
    FROM calls CROSS JOIN callers ON callers.id = calls.caller CROSS JOIN kinds ON kinds.id = calls.kind
"""
CALL = _CALLS + "WHERE calls.id = ?"
CALLS = (
    _CALLS
    + """
    WHERE calls.id >= :first AND calls.id < :beyond AND calls.id > :after
        AND started_ns >= :since_ns AND started_ns < :until_ns
        AND (:team IS NULL OR team = :team) AND (:feature IS NULL OR feature = :feature)
        AND (:model IS NULL OR model = :model) AND (:user IS NULL OR user = :user)
        AND (:key IS NULL OR key_id = :key) AND (:target IS NULL OR target = :target)
        AND (:status IS NULL OR status = :status)
    ORDER BY calls.id DESC LIMIT :limit
"""
)

# -- calls as they stood before --

IS_WIDE = "SELECT count(*) FROM sqlite_master WHERE name = 'wide_calls'"
WIDE = "SELECT * FROM wide_calls ORDER BY id LIMIT ?"
FORGET_WIDE = "DELETE FROM wide_calls WHERE id <= ?"
DROP_WIDE = "DROP TABLE wide_calls"

# -- keys --

# Columns by name, so that a process that does not know a later one yet goes on.
ADD_KEY = """
    INSERT INTO keys (id, hash, team, feature, label, admin, created_ns, expires_ns, revoked_ns, rpm, tpm, concurrency,
        day_nano_usd, month_nano_usd)
    VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)
"""
KEYS = """
    SELECT id, hash, team, feature, label, admin, created_ns, expires_ns, revoked_ns, rpm, tpm, concurrency,
        day_nano_usd, month_nano_usd
    FROM keys ORDER BY created_ns, id
"""
EXPIRE_KEY = "UPDATE keys SET expires_ns = min(coalesce(expires_ns, :at), :at) WHERE id = :id"
LIMIT_KEY = """
    UPDATE keys SET rpm = :rpm, tpm = :tpm, concurrency = :concurrency, day_nano_usd = :day_nano_usd,
        month_nano_usd = :month_nano_usd WHERE id = :id
"""
REVOKE_KEY = "UPDATE keys SET revoked_ns = coalesce(revoked_ns, :at) WHERE id = :id"
KEYS_CHANGED = "UPDATE meta SET value = value + 1 WHERE name = 'keys'"
KEYS_VERSION = "SELECT value FROM meta WHERE name = 'keys'"

# -- idempotency keys --

# Without a status a row is a claim: the call is being made, and `until_ns` is when its owner will be taken for dead.
# With one it is a reply, kept until then. What is deleted is overwritten: there are answers in it.
SHRED = "PRAGMA secure_delete = ON"
CLAIM_OF = "SELECT request, status, headers, body FROM idempotency WHERE id = :id AND until_ns > :now"
CLAIM = """
    INSERT INTO idempotency (id, request, owner, until_ns) VALUES (:id, :request, :owner, :until)
    ON CONFLICT (id) DO UPDATE SET request = :request, owner = :owner, until_ns = :until,
        status = NULL, headers = NULL, body = NULL
        WHERE until_ns <= :now
"""
RENEW_CLAIMS = "UPDATE idempotency SET until_ns = :until WHERE owner = :owner AND status IS NULL"
KEEP_REPLY = """
    UPDATE idempotency SET until_ns = :until, status = :status, headers = :headers, body = :body
    WHERE id = :id AND owner = :owner AND status IS NULL
"""
RELEASE_CLAIM = "DELETE FROM idempotency WHERE id = :id AND owner = :owner AND status IS NULL"
RELEASE_CLAIMS = "DELETE FROM idempotency WHERE owner = :owner AND status IS NULL"
FORGET_REPLIES = """
    DELETE FROM idempotency WHERE id IN (SELECT id FROM idempotency WHERE until_ns <= :now ORDER BY until_ns LIMIT :limit)
"""

# -- what counts are corrected by --

FACTORS = "SELECT model, seen, mean, variance FROM factors ORDER BY model"
KEEP_FACTOR = """
    INSERT INTO factors (model, seen, mean, variance) VALUES (?,?,?,?)
    ON CONFLICT (model) DO UPDATE SET seen = excluded.seen, mean = excluded.mean, variance = excluded.variance
"""
