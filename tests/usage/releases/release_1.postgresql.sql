CREATE TABLE ai_usage (
    request_id VARCHAR(64) NOT NULL,
    client_request_id VARCHAR(128),
    time_ms BIGINT NOT NULL,
    user_id VARCHAR(255) NOT NULL,
    organisation_id VARCHAR(255),
    key_id VARCHAR(255) NOT NULL,
    model VARCHAR(255) NOT NULL,
    endpoint_id VARCHAR(255),
    route VARCHAR(100) NOT NULL,
    streamed BOOLEAN NOT NULL,
    status INTEGER NOT NULL,
    outcome VARCHAR(20) NOT NULL,
    answered BOOLEAN NOT NULL,
    prompt_tokens BIGINT NOT NULL,
    completion_tokens BIGINT NOT NULL,
    cached_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    total_tokens BIGINT NOT NULL,
    usage_source VARCHAR(20) NOT NULL,
    cost_nano BIGINT NOT NULL,
    first_byte_ms DOUBLE PRECISION,
    duration_ms DOUBLE PRECISION,
    attempts INTEGER NOT NULL,
    counted_on VARCHAR(255),
    PRIMARY KEY (request_id)
);

CREATE INDEX ai_usage_by_counted_on ON ai_usage (counted_on, time_ms);

CREATE INDEX ai_usage_by_key ON ai_usage (key_id, time_ms);

CREATE INDEX ai_usage_by_organisation ON ai_usage (organisation_id, time_ms);

CREATE INDEX ai_usage_by_time ON ai_usage (time_ms);

CREATE INDEX ai_usage_by_user ON ai_usage (user_id, time_ms);

CREATE TABLE ai_usage_schema (
    version INTEGER NOT NULL,
    PRIMARY KEY (version)
);

INSERT INTO ai_usage_schema (version) VALUES (1) ON CONFLICT (version) DO NOTHING;

INSERT INTO ai_usage (request_id, client_request_id, time_ms, user_id, organisation_id, key_id, model, endpoint_id, route, streamed, status, outcome, answered, prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens, total_tokens, usage_source, cost_nano, first_byte_ms, duration_ms, attempts, counted_on) VALUES ('00000000000000000000000000000001', 'theirs', 1790000001250, '42', '10', 'laptop', 'gpt-4o', 'openai-a', '/v1/chat/completions', true, 200, 'ok', true, 7, 3, 2, 1, 10, 'reported', 1000, 12.5, 99.75, 1, 'user:42') ON CONFLICT (request_id) DO NOTHING;

INSERT INTO ai_usage (request_id, client_request_id, time_ms, user_id, organisation_id, key_id, model, endpoint_id, route, streamed, status, outcome, answered, prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens, total_tokens, usage_source, cost_nano, first_byte_ms, duration_ms, attempts, counted_on) VALUES ('00000000000000000000000000000002', NULL, 1790000002250, '"42"', NULL, '""quoted""', 'größe''n', NULL, '/v1/chat/completions', false, 499, 'cancelled', false, 7, 3, 2, 1, 10, 'reported', 1000, NULL, 99.75, 1, 'user:42') ON CONFLICT (request_id) DO NOTHING;

INSERT INTO ai_usage (request_id, client_request_id, time_ms, user_id, organisation_id, key_id, model, endpoint_id, route, streamed, status, outcome, answered, prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens, total_tokens, usage_source, cost_nano, first_byte_ms, duration_ms, attempts, counted_on) VALUES ('00000000000000000000000000000003', NULL, 1790000003250, 'uuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu', '10', 'laptop', 'gpt-4o', NULL, '/v1/chat/completions', false, 503, 'interrupted', true, 0, 0, 0, 0, 0, 'none', 0, NULL, NULL, 0, 'organisation:10') ON CONFLICT (request_id) DO NOTHING;
