#!lua flags=allow-oom
-- Lease due messages to a sign worker.
-- KEYS: sign queue, parked, events
-- ARGV: token, limit, max bytes, lease ms, when Redis restarted (ms; 0: long ago), most claims, most events,
--   when its worker gives up (ms), may an earlier answer with this token be lost (0/1)
-- Returns {claimed, parked ids}; claimed = {queue-id, version, envelope, sha256, seal, chunks, content, size}
local claimed, parked, bytes = {}, {}, 0
if now > tonumber(ARGV[8]) then return {claimed, parked} end -- a broken connection has delivered it late
if ARGV[9] == '1' then unclaim(KEYS[1], MESSAGE, 'owner', 'claims', ARGV[1], ARGV[4]) end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[2])) do
  local key = MESSAGE .. id
  local owner, claims, size, accepted = unpack(redis.call('HMGET', key, 'owner', 'claims', 'size', 'accepted'))
  if not size then
    redis.call('ZREM', KEYS[1], id)
  elseif owner and is_protected(KEYS[1], id, ARGV[4], ARGV[5]) then -- it keeps its owner
  elseif now < ARGV[5] + @WITHDRAWAL_MS@ and tonumber(accepted) < ARGV[5] - 1000 then -- it knows the start to a second
    -- Redis was away: its client may have heard 451 meanwhile, and ingress is about to take it back.
    redis.call('ZADD', KEYS[1], ARGV[5] + @WITHDRAWAL_MS@, id)
  elseif tonumber(claims or 0) >= tonumber(ARGV[6]) then
    redis.call('ZREM', KEYS[1], id)
    redis.call('HDEL', key, 'owner')
    redis.call('HSET', key, 'parked', 'each worker that claimed it died')
    redis.call('ZADD', KEYS[2], now, id .. ' ')
    redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[7], '*',
      'queue_id', id, 'event', 'recipient.parked', 'reason', 'each worker that claimed it died')
    parked[#parked + 1] = id
  else
    -- A message whose worker died is handed out alone, so that what kills workers takes no innocent message along.
    if #claimed > 0 and (claims or bytes + size > tonumber(ARGV[3])) then break end
    bytes = bytes + size
    redis.call('HSET', key, 'owner', ARGV[1])
    redis.call('HINCRBY', key, 'claims', 1)
    redis.call('ZADD', KEYS[1], now + ARGV[4], id)
    local fields = redis.call('HMGET', key, 'version', 'envelope', 'sha256', 'seal', 'chunks', 'content', 'rest')
    claimed[#claimed + 1] = {id, fields[1], fields[2], fields[3], fields[4], fields[5], (fields[6] or '') .. (fields[7] or ''), size}
    if claims then break end
  end
end
return {claimed, parked}
