#!lua flags=allow-oom
-- Lease due messages of one destination to a relay worker. While the destination backs off there are none; when its
-- time has come there is one, the probe, and the others wait for what becomes of it.
-- KEYS: queue, destinations, parked, events, backoff
-- ARGV: destination, token, limit, max bytes, lease ms, when Redis restarted (ms; 0: long ago), most claims, most events,
--   how many whose worker died once, how many on their last try, may probe (0/1), when its worker gives up (ms),
--   longest age ms and the queue-ids that are wanted, whatever is due and in back-off (none: what is due)
-- Returns {claimed, parked ids, how many are left for later}; claimed = {queue-id, version, envelope, signature, chunks,
--   content, size, recipients, age ms, attempts, recipients in doubt, claims before, failures of the destination,
--   how long until it is due ms}
local destination, limit = ARGV[1], tonumber(ARGV[3])
local room = {tonumber(ARGV[9]), tonumber(ARGV[10])}
local is_named = #ARGV > 13
local claimed, parked, left, bytes = {}, {}, 0, 0
if now > tonumber(ARGV[12]) then return {claimed, parked, left} end -- a broken connection has delivered it late
local backoff = redis.call('HMGET', KEYS[5], 'until', 'failures')
local waits_until, failures = tonumber(backoff[1] or 0), tonumber(backoff[2] or 0)

local function set_aside(id, key, event, reason)
  redis.call('ZREM', KEYS[1], id)
  redis.call('HDEL', key, 'o:' .. destination, 'w:' .. destination)
  redis.call('HSET', key, 'p:' .. destination, reason)
  redis.call('ZADD', KEYS[3], now, id .. ' ' .. destination)
  redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[8], '*',
    'queue_id', id, 'destination', destination, 'event', event, 'reason', reason)
end

-- A message whose worker died is under suspicion: few of those are handed out at once, and one on its last try alone,
-- so that what kills workers takes no innocent message along.
local function take_room(claims)
  if is_named or claims == 0 then return true end
  local kind = claims + 1 < tonumber(ARGV[7]) and 1 or 2
  room[kind] = room[kind] - 1
  return room[kind] >= 0
end

local function claim(id, key, size, recipients, claims)
  local due = redis.call('ZSCORE', KEYS[1], id)
  bytes = bytes + size
  redis.call('HSET', key, 'o:' .. destination, ARGV[2])
  redis.call('HINCRBY', key, 'k:' .. destination, 1)
  redis.call('ZADD', KEYS[1], now + ARGV[5], id)
  local f = redis.call('HMGET', MESSAGE .. id, 'version', 'envelope', 'signature', 'chunks', 'accepted', 'content', 'rest')
  local attempts, in_doubt = unpack(redis.call('HMGET', key, 'a:' .. destination, 'x:' .. destination))
  claimed[#claimed + 1] = {id, f[1], f[2], f[3], f[4], (f[6] or '') .. (f[7] or ''), size, recipients, now - f[5], tonumber(attempts or 0),
    in_doubt or '', claims, is_named and 0 or failures, due - now}
end

-- What is wanted by name is there, nobody has it, and there is something new to tell of it.
local function is_wanted(id, key, owner)
  if not is_named then return true end
  if owner or not redis.call('ZSCORE', KEYS[1], id) then return false end
  if redis.call('HEXISTS', key, 'n:' .. destination) == 0 then return true end
  return now - redis.call('HGET', MESSAGE .. id, 'accepted') >= tonumber(ARGV[13])
end

-- Tells whether there is room for more.
local function consider(id)
  local key = DELIVERY .. id
  local owner, claims, recipients, hold = unpack(redis.call('HMGET', key, 'o:' .. destination, 'k:' .. destination,
    'r:' .. destination, 'w:' .. destination))
  claims = tonumber(claims or 0)
  if not recipients then
    redis.call('ZREM', KEYS[1], id)
  elseif not is_wanted(id, key, owner) or (owner and is_protected(KEYS[1], id, ARGV[5], ARGV[6])) then
    return true
  elseif hold then -- its worker died before it could hold what a person asked to hold
    redis.call('HSET', key, 'h:' .. destination, 1)
    set_aside(id, key, 'recipient.held', hold)
  elseif claims >= tonumber(ARGV[7]) then
    set_aside(id, key, 'recipient.parked', 'each worker that claimed it died')
    parked[#parked + 1] = id
  elseif not take_room(claims) then
    left = left + 1
  else
    local size = redis.call('HGET', MESSAGE .. id, 'size')
    if #claimed > 0 and bytes + size > tonumber(ARGV[4]) then return false end
    claim(id, key, size, recipients, claims)
  end
  return #claimed < limit
end

local seen = {}
if is_named then
  consider_all({unpack(ARGV, 14)}, seen, consider)
  return {claimed, parked, left}
end
if failures > 0 then
  if ARGV[11] == '0' then waits_until = math.max(waits_until, now + 2000) end
  limit = 1
end
if waits_until <= now then
  look_through(KEYS[1], limit, seen, consider, function() return #claimed + left > 0 end)
  if left > 0 and #claimed < limit then -- look past those under suspicion
    consider_all(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, left + 200), seen, consider)
  end
  if failures > 0 and #claimed > 0 then
    waits_until = now + ARGV[5]
    redis.call('HSET', KEYS[5], 'until', waits_until)
  end
end
schedule(KEYS[1], KEYS[2], destination, waits_until)
return {claimed, parked, left}
