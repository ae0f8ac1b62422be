-- In front of every script: the clock (Redis's own, so that workers need not agree on the time) and the wake-ups.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local PREFIX = '@PREFIX@'
local MESSAGE = PREFIX .. 'm:'
local DELIVERY = PREFIX .. 'd:'
local CONTENT = PREFIX .. 'c:'
local WAKE = PREFIX .. 'wake:'
local DONE = PREFIX .. 'done:'
local BACKOFF = PREFIX .. 'backoff:'

-- Forget a message with its last recipient. Its name stays taken for a while: a command to spool it whose answer was
-- lost may come again, and must not make it a new message.
local function forget(id)
  redis.call('UNLINK', MESSAGE .. id, DELIVERY .. id, CONTENT .. id)
  redis.call('SET', DONE .. id, 1, 'PX', @DONE_TTL_MS@)
end

-- Keep the content of a message in two parts, the first of a power of two octets with its header: allocators hand out
-- steps of a quarter, so that one part of 10 kB would waste a fifth.
local function keep_content(message, content)
  local first = 4096
  while 2 * first <= #content do first = 2 * first end
  redis.call('HSET', message, 'content', string.sub(content, 1, first - 16))
  if #content > first - 16 then redis.call('HSET', message, 'rest', string.sub(content, first - 15)) end
end

-- Push wake-ups in the broker database; call it last, for the script stays in that database.
-- wakeups: {{flag, list, template, destination}, ...}
-- doubts_flags: a flag whose list is empty is of a wake-up that was popped by a worker that died before it began.
local function push_wakeups(broker_db, ttl_ms, wakeups, doubts_flags)
  if #wakeups == 0 then return end
  redis.call('SELECT', broker_db)
  local is_empty = {}
  for index, wakeup in ipairs(wakeups) do
    local flag, list, template, destination = unpack(wakeup)
    if doubts_flags and is_empty[list] == nil then is_empty[list] = redis.call('LLEN', list) == 0 end
    local is_new = redis.call('SET', WAKE .. flag, 1, 'NX', 'PX', ttl_ms)
    if is_new or is_empty[list] then
      local places = {['@ID@'] = string.format('%.0f-%s-%d', now, time[2], index), ['@DESTINATION@'] = destination}
      redis.call('LPUSH', list, (string.gsub(template, '@%u+@', places)))
    end
  end
end

-- Have a destination looked at by this time, or when its back-off ends if that is later. Tells whether it backs off.
local function look_at(destinations, destination, at)
  local waits_until = redis.call('HGET', BACKOFF .. destination, 'until')
  redis.call('ZADD', destinations, 'LT', math.max(at, tonumber(waits_until or 0)), destination)
  return waits_until
end

-- Have a destination looked at when its first message is due or its back-off ends, whichever is later.
local function schedule(queue, destinations, destination, waits_until)
  local first = redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')[2]
  if first then
    redis.call('ZADD', destinations, math.max(tonumber(first), waits_until), destination)
  else
    redis.call('ZREM', destinations, destination)
  end
end

-- Is it a destination, and not what is waiting to be signed or reported?
local function is_destination(stage)
  return stage ~= '' and stage ~= '!report'
end

-- Is the message waiting at this destination; without one: is it there and not signed yet? The state is the hash of
-- its delivery; without destination that of the message.
local function is_there(state, destination)
  if destination == '!report' then return redis.call('HEXISTS', state, 'recorded') == 1 end
  if destination ~= '' then return redis.call('HEXISTS', state, 'r:' .. destination) == 1 end
  return redis.call('HEXISTS', state, 'size') == 1 and redis.call('HEXISTS', state, 'signature') == 0
end

-- Does a worker own it? One whose lease ended half a minute ago does not: longer than an owner takes to renew after
-- Redis was away. Its token must go then, so that it can neither commit nor record if it comes back.
local function is_owned(state, owner, queue, id)
  if redis.call('HEXISTS', state, owner) == 0 then return false end
  return tonumber(redis.call('ZSCORE', queue, id) or 0) > now - @RESTART_GRACE_MS@
end

-- Redis has just restarted (0: it has not): whoever has had a lease since before gets time to finish. Each such grace
-- adds a quarter to the score, and whoever renews writes a whole number: who has not done so through several graces is
-- dead, however often Redis restarts.
local function is_protected(queue, id, lease_ms, restarted_ms)
  local ends, restarted = tonumber(redis.call('ZSCORE', queue, id)), tonumber(restarted_ms)
  local graces, grace_ends = ends % 1 * 4, restarted + @RESTART_GRACE_MS@
  if restarted == 0 or ends - lease_ms > restarted or ends >= grace_ends or graces >= @MAX_GRACES@ then return false end
  redis.call('ZADD', queue, math.max(grace_ends, now + 1000) + (graces + 1) / 4, id)
  return true
end

-- Name what is due, the most urgent first, and tell whether there may be more. Before the first of much there is a share
-- of what waited for something else, a retry or a lease that ended: its place is behind all plain mail of nine minutes.
local function list_due(queue, limit)
  local due = redis.call('ZRANGEBYSCORE', queue, '-inf', now, 'LIMIT', 0, limit)
  if #due < tonumber(limit) then return due, false end
  local share = math.floor(limit * @RETURNED_SHARE@)
  local ids = redis.call('ZRANGEBYSCORE', queue, now - @PLAIN_LEAD_MS@, now, 'LIMIT', 0, share)
  for _, id in ipairs(due) do ids[#ids + 1] = id end
  return ids, true
end

-- Consider each that was not seen before, while there is room for more. Tells whether there still is.
local function consider_all(ids, seen, consider)
  for _, id in ipairs(ids) do
    if not seen[id] then
      seen[id] = true
      if not consider(id) then return false end
    end
  end
  return true
end

-- Consider what is due until something is found: what is left to its owner gives its place to what it would hide.
local function look_through(queue, limit, seen, consider, found)
  for _ = 1, @MAX_LOOKS@ do
    local ids, may_be_more = list_due(queue, limit)
    if not consider_all(ids, seen, consider) or found() or not may_be_more then return end
  end
end

-- Take back what claims with this token were given whose answer was lost: it is due, and no worker has died on it.
-- If Redis was away until now, its lease may have ended, or been prolonged for the restart.
local function unclaim(queue, prefix, owner, claims, token, lease_ms)
  local count, latest = 0, now + math.max(lease_ms, @RESTART_GRACE_MS@)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', queue, now - @LOST_CLAIM_MS@, latest, 'LIMIT', 0, @MAX_LOST_LOOKS@)) do
    local key = prefix .. id
    if redis.call('HGET', key, owner) == token then
      redis.call('HDEL', key, owner)
      if redis.call('HINCRBY', key, claims, -1) < 1 then redis.call('HDEL', key, claims) end
      redis.call('ZADD', queue, now, id)
      count = count + 1
    end
  end
  return count
end

-- Keep what the sender is to be told, and make it due. What waits for its report keeps the message alive like a
-- destination: counted once, and no more while its report is parked.
local function note_outcomes(delivery, reports, id, wait_ms, records)
  for _, record in ipairs(records) do
    local number = redis.call('HINCRBY', delivery, 'recorded', 1)
    redis.call('HSET', delivery, 'd:' .. number, string.format('%.0f ', now) .. record)
  end
  if #records > 0 and redis.call('HEXISTS', delivery, 'report_parked') == 0
    and redis.call('ZADD', reports, 'NX', now + wait_ms, id) == 1 then
    redis.call('HINCRBY', delivery, 'open', 1)
  end
end
