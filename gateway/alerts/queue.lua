-- The atomic steps of alerts in Redis: see queue.py for what they promise and redis_queue.py for who calls them.
--
-- ARGV: prefix, operation, time, then what the operation takes, a MessagePack array. Times are seconds since 1970; 0 means
-- the clock of Redis, the only one that all workers share. Each key below stands behind PREFIX .. "alert:".
--
--   event:NAME        what it says, as a JSON array [id, body, made]; expires once it cannot be made again
--   due:RECEIVER      sorted set: names of events by when they are to be tried
--   tries:RECEIVER    hash: how often each was tried
--   leases:RECEIVER   hash: until when a worker that tries each is waited for
--   episode:NAME      hash: began, until, worker, runs (0 or 1); expires an hour after its beginning, unless it runs
--   episodes          set: names of those that run
--   stopped           hash: receivers that want no more, with the fingerprint of their entry then

local message = cmsgpack.unpack(ARGV[1])
local prefix, operation, now = message[1], message[2], message[3]
if now == 0 then
  local time = redis.call("TIME")
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end

local function key(...)
  return prefix .. "alert:" .. table.concat({ ... }, ":")
end

local function text(number)
  return string.format("%.6f", number)
end

local function forget(receiver, name)
  redis.call("ZREM", key("due", receiver), name)
  redis.call("HDEL", key("tries", receiver), name)
  redis.call("HDEL", key("leases", receiver), name)
end

local operations = {}

function operations.add(name, document, seconds, receivers, most)
  if not redis.call("SET", key("event", name), document, "NX", "EX", seconds) then
    return 0
  end
  for _, receiver in ipairs(receivers) do
    if redis.call("HEXISTS", key("stopped"), receiver) == 0 then
      local due = key("due", receiver)
      redis.call("ZADD", due, text(now), name)
      for _, old in ipairs(redis.call("ZRANGE", due, 0, -1 - most)) do
        forget(receiver, old)
      end
    end
  end
  return 1
end

function operations.begin(episode, began, until_, worker, gap, ...)
  local name = key("episode", episode)
  local found = redis.call("HMGET", name, "runs", "began", "until")
  if found[1] == "1" then
    if tonumber(found[3]) < until_ then
      redis.call("HSET", name, "until", text(until_))
    end
    redis.call("HSET", name, "worker", worker)
    return 0
  end
  local since = found[2] and began - tonumber(found[2])
  if since and since >= 0 and since < gap then
    return 0
  end
  redis.call("HSET", name, "runs", 1, "began", text(began), "until", text(until_), "worker", worker)
  redis.call("PERSIST", name)
  redis.call("SADD", key("episodes"), episode)
  return operations.add(...)
end

operations["end"] = function(episode, began, gap, ...)
  local name = key("episode", episode)
  local found = redis.call("HMGET", name, "runs", "began")
  if found[1] ~= "1" or found[2] ~= text(began) then
    return 0
  end
  redis.call("HSET", name, "runs", 0)
  redis.call("EXPIRE", name, math.max(1, math.ceil(began + gap - now)))
  redis.call("SREM", key("episodes"), episode)
  return operations.add(...)
end

function operations.episodes()
  local found = {}
  for _, episode in ipairs(redis.call("SMEMBERS", key("episodes"))) do
    local fields = redis.call("HMGET", key("episode", episode), "began", "until", "worker")
    if fields[1] then
      found[#found + 1] = { episode, fields[1], fields[2], fields[3] }
    else
      redis.call("SREM", key("episodes"), episode)
    end
  end
  return found
end

function operations.claim(receiver, most, lease)
  local taken = {}
  local due = key("due", receiver)
  for _, name in ipairs(redis.call("ZRANGEBYSCORE", due, "-inf", text(now), "LIMIT", 0, most)) do
    local document = redis.call("GET", key("event", name))
    if document then
      redis.call("ZADD", due, text(now + lease), name)
      redis.call("HSET", key("leases", receiver), name, text(now + lease))
      taken[#taken + 1] = { name, document, redis.call("HINCRBY", key("tries", receiver), name, 1) }
    else
      forget(receiver, name)
    end
  end
  return taken
end

function operations.done(receiver, name)
  forget(receiver, name)
  return 1
end

function operations.retry(receiver, name, seconds)
  redis.call("ZADD", key("due", receiver), "XX", text(now + seconds), name)
  redis.call("HDEL", key("leases", receiver), name)
  return 1
end

-- A gateway's workers all ask for it as they start: once is enough.
function operations.hurry(receivers, gap)
  if not redis.call("SET", key("hurried"), 1, "NX", "EX", gap) then
    return 0
  end
  for _, receiver in ipairs(receivers) do
    local due = key("due", receiver)
    for _, name in ipairs(redis.call("ZRANGEBYSCORE", due, "(" .. text(now), "+inf")) do
      local lease = tonumber(redis.call("HGET", key("leases", receiver), name) or 0)
      if lease <= now then
        redis.call("ZADD", due, text(now), name)
      end
    end
  end
  return 1
end

function operations.waiting(receivers)
  local count = 0
  for _, receiver in ipairs(receivers) do
    count = count + redis.call("ZCARD", key("due", receiver))
  end
  return count
end

function operations.stop(receiver, fingerprint)
  redis.call("HSET", key("stopped"), receiver, fingerprint)
  return redis.call("DEL", key("due", receiver), key("tries", receiver), key("leases", receiver))
end

function operations.stopped(receivers)
  local found = {}
  for i, receiver in ipairs(receivers) do
    found[i] = redis.call("HGET", key("stopped"), receiver) or ""
  end
  return found
end

function operations.resume(receiver)
  return redis.call("HDEL", key("stopped"), receiver)
end

return operations[operation](unpack(message, 4, #message))
