#!lua flags=allow-oom
-- Lease due messages of one destination to a relay worker.
-- KEYS: queue, destinations, parked, events
-- ARGV: destination, token, limit, max bytes, lease ms, may take expired leases (0/1), most claims, most events
-- Returns {claimed, parked ids}; claimed = {queue-id, version, envelope, signature, chunks, content, size, recipients,
--   age ms, attempts, recipients in doubt}
local destination = ARGV[1]
local claimed, parked, bytes = {}, {}, 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[3])) do
  local key = DELIVERY .. id
  local owner, claims, recipients, hold, attempts, in_doubt = unpack(redis.call('HMGET', key, 'o:' .. destination,
    'k:' .. destination, 'r:' .. destination, 'w:' .. destination, 'a:' .. destination, 'x:' .. destination))
  if not recipients then
    redis.call('ZREM', KEYS[1], id)
  elseif owner and ARGV[6] == '0' then
    redis.call('ZADD', KEYS[1], now + 5000, id) -- Redis has just restarted: let the owner finish
  elseif hold then -- its worker died before it could hold what a person asked to hold
    redis.call('ZREM', KEYS[1], id)
    redis.call('HDEL', key, 'o:' .. destination, 'w:' .. destination)
    redis.call('HSET', key, 'p:' .. destination, hold, 'h:' .. destination, 1)
    redis.call('ZADD', KEYS[3], now, id .. ' ' .. destination)
    redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[8], '*',
      'queue_id', id, 'destination', destination, 'event', 'recipient.held', 'reason', hold)
  elseif tonumber(claims or 0) >= tonumber(ARGV[7]) then
    redis.call('ZREM', KEYS[1], id)
    redis.call('HDEL', key, 'o:' .. destination)
    redis.call('HSET', key, 'p:' .. destination, 'each worker that claimed it died')
    redis.call('ZADD', KEYS[3], now, id .. ' ' .. destination)
    redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[8], '*',
      'queue_id', id, 'destination', destination, 'event', 'recipient.parked', 'reason', 'each worker that claimed it died')
    parked[#parked + 1] = id
  else
    local size = redis.call('HGET', MESSAGE .. id, 'size')
    if #claimed > 0 and bytes + size > tonumber(ARGV[4]) then break end
    bytes = bytes + size
    redis.call('HSET', key, 'o:' .. destination, ARGV[2])
    redis.call('HINCRBY', key, 'k:' .. destination, 1)
    redis.call('ZADD', KEYS[1], now + ARGV[5], id)
    local f = redis.call('HMGET', MESSAGE .. id, 'version', 'envelope', 'signature', 'chunks', 'content', 'accepted')
    claimed[#claimed + 1] =
      {id, f[1], f[2], f[3], f[4], f[5], size, recipients, now - f[6], tonumber(attempts or 0), in_doubt or ''}
  end
end
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if first[2] then
  redis.call('ZADD', KEYS[2], first[2], destination)
else
  redis.call('ZREM', KEYS[2], destination)
end
return {claimed, parked}
