-- The atomic steps of limits in Redis: see base.py for what they promise and redis.py for who calls them.
--
-- Integers are negated as `0 - n`: -0 would reach Redis as "-0", which is no integer to it.
--
-- ARGV[1] is a MessagePack array: prefix, operation, time, then what the operation takes. Times are microseconds; a time
-- of 0 means the clock of Redis, the only one that all workers share. Keys are made here, from the names of scopes: in a
-- Cluster the prefix begins with a tag, by which one server has them all. Each key below stands behind PREFIX .. "limit:".
--
--   w:SCOPE          sorted set: admissions of the last 60 s, request id by time
--   t:SCOPE          hash: their tokens by request id, and `sum` of them all
--   l:SCOPE          set: request ids of running requests
--   p:PERIOD:SCOPE   hash: totals of the current period (start, stop, requests, tokens, cost, and what of them, or
--                    beside them in tokens and cost, is reserved)
--   load:PERIOD:SCOPE  who holds it asks the ledger for the totals
--   held             hash: running requests by id: {holder, tokens, cost, {{scope, period, start, and of its totals
--                    reserved: tokens, cost, requests}, ...}}; those of older versions reserved `tokens` and `cost` of
--                    each, and one request
--   of:HOLDER        set: request ids that a holder (a worker since it last connected) keeps alive
--   holders          hash: when each holder was last heard of
--   seq:WORKER       the number of the last end that a worker has told
--   life             a random name for these data: another one means that they were lost

local WINDOW = 60000000
local SECOND = 1000000
local LATE = 5 * SECOND -- as in memory.py
local EDGE_SECONDS = 60 -- as in memory.py
local MOST_LOOKED_AT = 100 -- as in memory.py
local WINDOW_TTL_SECONDS = 120
local RUNNING_TTL_SECONDS = 604800 -- a last resort: leases end by their holder's silence
local LOAD_TTL_MS = 5000
local SEQ_TTL_SECONDS = 86400

local ADMITTED, REFUSED, LOAD = 0, 1, 2

local message = cmsgpack.unpack(ARGV[1])
local prefix, operation, now = message[1], message[2], message[3]
local function time_here()
  local time = redis.call("TIME")
  return tonumber(time[1]) * SECOND + tonumber(time[2])
end
if now == 0 then
  now = time_here()
end
local seconds = math.floor(now / SECOND)

local function key(...)
  return prefix .. "limit:" .. table.concat({ ... }, ":")
end

-- Calendar ---------------------------------------------------------------------------------------------------------

local LENGTHS = { minute = 60, hour = 3600, day = 86400 }

-- The year and month of a day, counted from 1970-01-01; years begin in March here, so that leap days come last.
local function month_of(day)
  day = day + 719468
  local era = math.floor(day / 146097)
  local of_era = day - era * 146097
  local year = math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524) - math.floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  local month = math.floor((5 * of_year + 2) / 153)
  if month < 10 then
    return year + era * 400, month + 3
  end
  return year + era * 400 + 1, month - 9
end

-- The first second of a month.
local function first_of(year, month)
  if month <= 2 then
    year, month = year - 1, month + 12
  end
  local era = math.floor(year / 400)
  local of_era = year - era * 400
  local of_year = math.floor((153 * (month - 3) + 2) / 5)
  local day = era * 146097 + of_era * 365 + math.floor(of_era / 4) - math.floor(of_era / 100) + of_year - 719468
  return day * 86400
end

local function bounds(period)
  local length = LENGTHS[period]
  if length then
    local start = seconds - seconds % length
    return start, start + length
  end
  local year, month = month_of(math.floor(seconds / 86400))
  if month == 12 then
    return first_of(year, 12), first_of(year + 1, 1)
  end
  return first_of(year, month), first_of(year, month + 1)
end

-- Totals -----------------------------------------------------------------------------------------------------------

local function write_totals(name, start, stop, requests, tokens, cost)
  redis.call("HSET", name, "start", start, "stop", stop, "requests", requests, "tokens", tokens, "cost", cost,
    "requests_reserved", 0, "tokens_reserved", 0, "cost_reserved", 0)
  -- To be known as the one before the next.
  redis.call("EXPIRE", name, math.max(60, 2 * stop - start - seconds + EDGE_SECONDS))
end

-- The totals that are kept, of whichever period; nil where none are.
local function totals_at(scope, period)
  local name = key("p", period, scope)
  local found = redis.call("HMGET", name, "start", "stop", "requests", "tokens", "cost", "tokens_reserved", "cost_reserved",
    "requests_reserved")
  if not found[1] then
    return nil
  end
  return {
    start = tonumber(found[1]),
    stop = tonumber(found[2]),
    requests = tonumber(found[3]),
    tokens = tonumber(found[4]),
    cost = tonumber(found[5]),
    tokens_reserved = tonumber(found[6]),
    cost_reserved = tonumber(found[7]),
    requests_reserved = math.max(0, tonumber(found[8]) or 0),
  }
end

-- The totals of the current period; nil where the ledger has to be asked.
local function totals_of(scope, period)
  local totals = totals_at(scope, period)
  if not totals then
    return nil
  end
  if totals.start - EDGE_SECONDS <= seconds and seconds < totals.stop then
    return totals
  end
  local next_start, next_stop = bounds(period)
  if next_start ~= totals.stop then
    return nil
  end
  write_totals(key("p", period, scope), next_start, next_stop, 0, 0, 0)
  return { start = next_start, stop = next_stop, requests = 0, tokens = 0, cost = 0, tokens_reserved = 0, cost_reserved = 0,
    requests_reserved = 0 }
end

-- The sliding minute -----------------------------------------------------------------------------------------------

-- Lets go what is 60 s old. Returns the time to go by: never before the newest admission.
local function slide(scope)
  local window = key("w", scope)
  local newest = tonumber(redis.call("ZRANGE", window, -1, -1, "WITHSCORES")[2])
  if not newest then
    return now
  end
  local at = now
  if newest > now then
    if newest - now <= LATE then
      at = newest
    else -- the clock has stepped back: the window keeps its shape and goes with it
      for _, id in ipairs(redis.call("ZRANGE", window, 0, -1)) do
        redis.call("ZINCRBY", window, now - newest, id)
      end
    end
  end
  local gone = redis.call("ZRANGEBYSCORE", window, "-inf", at - WINDOW)
  if #gone > 0 then
    local tokens, freed = key("t", scope), 0
    for _, id in ipairs(gone) do
      freed = freed + (tonumber(redis.call("HGET", tokens, id)) or 0)
      redis.call("HDEL", tokens, id)
    end
    redis.call("ZREMRANGEBYSCORE", window, "-inf", at - WINDOW)
    redis.call("HINCRBY", tokens, "sum", 0 - freed)
  end
  return at
end

-- Seconds of waiting are told in microseconds.
local function rpm_wait(scope, rpm, count, at)
  local leaver = redis.call("ZRANGE", key("w", scope), count - rpm, count - rpm, "WITHSCORES")[2]
  return leaver and tonumber(leaver) + WINDOW - at or WINDOW
end

local function tpm_wait(scope, tpm, sum, at)
  local wait = 0
  local oldest = redis.call("ZRANGE", key("w", scope), 0, MOST_LOOKED_AT - 1, "WITHSCORES")
  for i = 1, #oldest, 2 do
    if sum < tpm then
      return wait
    end
    sum = sum - (tonumber(redis.call("HGET", key("t", scope), oldest[i])) or 0)
    wait = tonumber(oldest[i + 1]) + WINDOW - at
  end
  return (tpm > 0 and wait > 0) and wait or WINDOW
end

-- Reserve ----------------------------------------------------------------------------------------------------------

local function below(used, limit)
  return not limit or used < limit
end

-- How a demand stands. Its fields are those of a Standing in values.py; `room` says whether so many more requests have it.
local function look(demand, many)
  local scope, totals = demand.scope, demand.totals
  local at = { room = true, time = now, requests = 0, tokens = 0, leaves = WINDOW, rpm_wait = 0, tpm_wait = 0 }
  at.running = redis.call("SCARD", key("l", scope))
  if demand.windowed then
    at.time = slide(scope)
    at.requests = redis.call("ZCARD", key("w", scope))
    at.tokens = tonumber(redis.call("HGET", key("t", scope), "sum")) or 0
    local oldest = redis.call("ZRANGE", key("w", scope), 0, 0, "WITHSCORES")[2]
    at.leaves = oldest and tonumber(oldest) + WINDOW - at.time or WINDOW
    if not demand.placed and not below(at.requests, demand.rpm) then
      at.room, at.rpm_wait = false, rpm_wait(scope, demand.rpm, at.requests, at.time)
    end
    if not below(at.tokens, demand.tpm) then
      at.room, at.tpm_wait = false, tpm_wait(scope, demand.tpm, at.tokens, at.time)
    end
  end
  at.room = at.room and (demand.placed or below(at.running, demand.concurrency))
  if totals then
    at.room = at.room and below(totals.requests + many - 1, demand.requests)
      and below(totals.tokens + totals.tokens_reserved, demand.tokens)
      and below(totals.cost + totals.cost_reserved, demand.cost)
  end
  return at
end

local function hold(scope, id)
  redis.call("SADD", key("l", scope), id)
  redis.call("EXPIRE", key("l", scope), RUNNING_TTL_SECONDS)
end

-- So much of what is wanted as a limit has left.
local function within(wanted, most, taken)
  if not most or wanted + taken <= most then
    return wanted
  end
  return math.max(0, most - taken)
end

local function reserve_totals(scope, period, requests, tokens, cost)
  local name = key("p", period, scope)
  redis.call("HINCRBY", name, "requests", requests)
  redis.call("HINCRBY", name, "requests_reserved", requests)
  redis.call("HINCRBY", name, "tokens_reserved", tokens)
  redis.call("HINCRBY", name, "cost_reserved", cost)
end

-- Returns what it reserved of the totals.
local function take(demand, at, id, many, tokens, cost)
  local scope, totals = demand.scope, demand.totals
  hold(scope, id)
  at.running = at.running + 1
  if demand.windowed then
    local in_window = within(tokens, demand.tpm, at.tokens)
    redis.call("ZADD", key("w", scope), at.time, id)
    redis.call("HSET", key("t", scope), id, in_window)
    redis.call("HINCRBY", key("t", scope), "sum", in_window)
    redis.call("EXPIRE", key("w", scope), WINDOW_TTL_SECONDS)
    redis.call("EXPIRE", key("t", scope), WINDOW_TTL_SECONDS)
    at.requests, at.tokens = at.requests + 1, at.tokens + in_window
  end
  if totals then
    tokens = within(tokens, demand.tokens, totals.tokens + totals.tokens_reserved)
    cost = within(cost, demand.cost, totals.cost + totals.cost_reserved)
    reserve_totals(scope, demand.period, many, tokens, cost)
    totals.requests, totals.requests_reserved = totals.requests + many, totals.requests_reserved + many
    totals.tokens_reserved, totals.cost_reserved = totals.tokens_reserved + tokens, totals.cost_reserved + cost
  end
  return tokens, cost, many
end

local function keep(id, holder, tokens, cost, counted)
  redis.call("HSET", key("held"), id, cmsgpack.pack({ holder, tokens, cost, counted }))
  redis.call("SADD", key("of", holder), id)
  -- A holder that was given up for dead may still have had this on its way.
  redis.call("HSETNX", key("holders"), holder, time_here())
end

local function told(code, demands, standings)
  local reply = { code, now }
  for i, at in ipairs(standings) do
    local totals = demands[i].totals or {}
    for _, figure in ipairs({ at.requests, at.tokens, at.leaves, at.running, totals.requests or 0, totals.tokens or 0,
      totals.cost or 0, totals.tokens_reserved or 0, totals.cost_reserved or 0, totals.start or 0, totals.stop or 0,
      at.rpm_wait, at.tpm_wait, totals.requests_reserved or 0 }) do
      reply[#reply + 1] = figure
    end
  end
  return reply
end

-- The message's demands, each with its totals; nil and the answer to give where the ledger has to be asked first.
local function read_demands(rows)
  local demands = {}
  for i, row in ipairs(rows) do
    local demand = { scope = row[1], rpm = row[2], tpm = row[3], concurrency = row[4], requests = row[5], tokens = row[6],
      cost = row[7], period = row[8], placed = row[9] }
    demand.windowed = demand.rpm ~= nil or demand.tpm ~= nil
    if demand.period ~= "" then
      demand.totals = totals_of(demand.scope, demand.period)
      if not demand.totals then
        local mine = redis.call("SET", key("load", demand.period, demand.scope), 1, "NX", "PX", LOAD_TTL_MS)
        local start, stop = bounds(demand.period)
        return nil, { LOAD, now, i - 1, start, stop, mine and 1 or 0 }
      end
    end
    demands[i] = demand
  end
  return demands
end

local operations = {}

-- Settle and cancel ------------------------------------------------------------------------------------------------

local function end_window(scope, id, kind, used)
  local tokens = key("t", scope)
  local held = tonumber(redis.call("HGET", tokens, id))
  if not held then
    return
  end
  if kind == "cancel" then
    redis.call("ZREM", key("w", scope), id)
    redis.call("HDEL", tokens, id)
    redis.call("HINCRBY", tokens, "sum", 0 - held)
  else
    redis.call("HSET", tokens, id, used)
    redis.call("HINCRBY", tokens, "sum", used - held)
  end
end

-- `record` and its row: what was reserved here, nil where nothing was.
-- `many`: the requests that it counts for.
local function end_totals(scope, period, kind, used, used_cost, many, record, row)
  local name = key("p", period, scope)
  local requests = kind == "settle" and many or 0
  if record then
    redis.call("HINCRBY", name, "tokens_reserved", 0 - (row[4] or record.tokens))
    redis.call("HINCRBY", name, "cost_reserved", 0 - (row[5] or record.cost))
    local reserved = row[6] or 1
    if row[4] then
      redis.call("HINCRBY", name, "requests_reserved", 0 - reserved)
    end
    requests = requests - reserved
  end
  if requests ~= 0 then
    redis.call("HINCRBY", name, "requests", requests)
  end
  if kind == "settle" then
    redis.call("HINCRBY", name, "tokens", used)
    redis.call("HINCRBY", name, "cost", used_cost)
  end
end

-- `kind`: settle; cancel, which gives everything back; lapse, which leaves the place in the sliding minute taken.
-- `record`: what this Redis holds of the request, nil where nothing is; its word on where the request counts comes first.
local function finish(id, kind, used, used_cost, rows, record)
  for i, row in ipairs(rows) do
    local scope, period, start = row[1], row[2], row[3]
    local counted = record and record.rows[i] and record.rows[i][3] > 0
    if counted then
      start = record.rows[i][3]
    end
    redis.call("SREM", key("l", scope), id)
    end_window(scope, id, kind, used)
    local current = period ~= "" and tonumber(redis.call("HGET", key("p", period, scope), "start"))
    if current and current == start then
      local many = counted and (record.rows[i][6] or 1) or row[4] or 1
      end_totals(scope, period, kind, used, used_cost, many, counted and record or nil, counted and record.rows[i])
    elseif current and start > current and kind == "settle" then
      -- Used while Redis was away, in a period that it has not seen yet: the ledger knows all of it.
      redis.call("DEL", key("p", period, scope))
    end
  end
end

local function take_record(id)
  local packed = redis.call("HGET", key("held"), id)
  if not packed then
    return nil
  end
  local found = cmsgpack.unpack(packed)
  redis.call("HDEL", key("held"), id)
  redis.call("SREM", key("of", found[1]), id)
  return { tokens = found[2], cost = found[3], rows = found[4] }
end

-- Told in order by each worker, again where the first telling may have been lost: hence the number.
operations["end"] = function(worker, number, life, id, kind, used, used_cost, rows)
  local last = tonumber(redis.call("GET", key("seq", worker))) or 0
  if number <= last then
    return 0
  end
  redis.call("SET", key("seq", worker), number, "EX", SEQ_TTL_SECONDS)
  local record = take_record(id)
  -- What this Redis never held counts too (it was away, or gave the worker up for dead), unless its data were lost
  -- since: then the ledger has told of it, or will. Returned are the totals that may lack it.
  if record or redis.call("GET", key("life")) == life then
    finish(id, kind, used, used_cost, rows, record)
    return 1
  end
  local lacking = {}
  for _, row in ipairs(kind == "settle" and rows or {}) do
    if row[2] ~= "" then
      lacking[#lacking + 1] = { row[1], row[2], row[3] }
    end
  end
  return lacking
end

-- Admission --------------------------------------------------------------------------------------------------------

-- holder, id, tokens, cost, demands, and the name of the place that the request has already in some of these, empty
-- where it has none; for how many requests it counts in totals. Without an id it only looks.
function operations.reserve(holder, id, tokens, cost, rows, place, many)
  local demands, load = read_demands(rows)
  if not demands then
    return load
  end
  local standings, room = {}, true
  for i, demand in ipairs(demands) do
    standings[i] = look(demand, many)
    room = room and standings[i].room
  end
  if id == "" or redis.call("HEXISTS", key("held"), id) == 1 then
    return told(ADMITTED, demands, standings)
  end
  if not room then
    return told(REFUSED, demands, standings)
  end
  local record = place and place ~= "" and take_record(place)
  if record then
    finish(place, "cancel", 0, 0, record.rows, record)
  end
  local counted = {}
  for i, demand in ipairs(demands) do
    if record and demand.placed then
      standings[i] = look(demand, many)
    end
    local start = demand.totals and demand.totals.start or 0
    counted[i] = { demand.scope, demand.period, start, take(demand, standings[i], id, many, tokens, cost) }
  end
  keep(id, holder, tokens, cost, counted)
  return told(ADMITTED, demands, standings)
end

-- Leases -----------------------------------------------------------------------------------------------------------

-- A request that runs on while its worker has connected anew: it moves to the new holder, or is entered again.
-- `most`: the limits of tokens and cost of each row, negative where there are none.
-- `detached`: it has no place among the running.
function operations.rehome(holder, id, tokens, cost, rows, most, detached)
  local record = take_record(id)
  if record then
    keep(id, holder, record.tokens, record.cost, record.rows)
    return 1
  end
  local counted = {}
  for i, row in ipairs(rows) do
    local scope, period, start = row[1], row[2], row[3]
    if not detached then
      hold(scope, id)
    end
    local current = period ~= "" and tonumber(redis.call("HGET", key("p", period, scope), "start"))
    if current and current == start then
      local totals = totals_at(scope, period)
      local of_tokens, of_cost = most[i][1], most[i][2]
      local held = within(tokens, of_tokens >= 0 and of_tokens, totals.tokens + totals.tokens_reserved)
      local held_cost = within(cost, of_cost >= 0 and of_cost, totals.cost + totals.cost_reserved)
      reserve_totals(scope, period, row[4], held, held_cost)
      counted[i] = { scope, period, start, held, held_cost, row[4] }
    else
      counted[i] = { scope, period, 0, 0, 0 }
    end
  end
  keep(id, holder, tokens, cost, counted)
  return 0
end

-- A request that goes on without its worker gives up its place among the running.
function operations.detach(id, rows)
  for _, row in ipairs(rows) do
    redis.call("SREM", key("l", row[1]), id)
  end
  return 1
end

-- Ends up to `most` requests of a holder that fell silent. Returns how many were looked at.
local function lapse(holder, most)
  local ids = redis.call("SRANDMEMBER", key("of", holder), most)
  for _, id in ipairs(ids) do
    local packed = redis.call("HGET", key("held"), id)
    if packed and cmsgpack.unpack(packed)[1] == holder then
      local record = take_record(id)
      finish(id, "lapse", 0, 0, record.rows, record)
    end
    redis.call("SREM", key("of", holder), id)
  end
  if #ids < most then
    redis.call("HDEL", key("holders"), holder)
  end
  return #ids
end

-- "I am alive." Ends what belongs to those who are not. Returns the name of these data, and 1 where more is to end.
function operations.beat(holder, lease, life, most)
  redis.call("HSET", key("holders"), holder, now)
  local heard = redis.call("HGETALL", key("holders"))
  local left = most
  for i = 1, #heard, 2 do
    local seen = tonumber(heard[i + 1])
    if seen > now then -- the clock has stepped back
      redis.call("HSET", key("holders"), heard[i], now)
    elseif now - seen > lease and left > 0 then
      left = left - lapse(heard[i], left)
    end
  end
  redis.call("SET", key("life"), life, "NX")
  return { redis.call("GET", key("life")), left > 0 and 0 or 1 }
end

-- Rebuilding -------------------------------------------------------------------------------------------------------

-- What the ledger has told. Where somebody else was faster, and counts already, theirs stands.
function operations.install(scope, period, start, stop, requests, tokens, cost)
  local name = key("p", period, scope)
  local known = tonumber(redis.call("HGET", name, "start"))
  -- A later period may have begun meanwhile, unless the clock has stepped back.
  if not known or known < start or known > seconds + EDGE_SECONDS then
    write_totals(name, start, stop, requests, tokens, cost)
  end
  redis.call("DEL", key("load", period, scope))
  return 1
end

-- What the ledger knows is used; what ended since it was asked is counted here alone.
function operations.raise(scope, period, start, requests, tokens, cost)
  local totals = totals_at(scope, period)
  if not totals or totals.start ~= start then
    return 0
  end
  redis.call("HSET", key("p", period, scope), "requests", math.max(totals.requests, requests + totals.requests_reserved),
    "tokens", math.max(totals.tokens, tokens), "cost", math.max(totals.cost, cost))
  return 1
end

-- The ledger could not tell: somebody else may try.
function operations.release(scope, period)
  return redis.call("DEL", key("load", period, scope))
end

return operations[operation](unpack(message, 4, #message))
