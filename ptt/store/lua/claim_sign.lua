#!lua flags=allow-oom
-- Lease due messages to a sign worker.
-- KEYS: sign queue, parked, events
-- ARGV: token, limit, max bytes, lease ms, when Redis restarted (ms; 0: long ago), most claims, most events,
--   when its worker gives up (ms), may an earlier answer with this token be lost (0/1)
-- Returns {claimed, parked ids}; claimed = {queue-id, version, envelope, sha256, seal, chunks, content, size}
local claimed, parked, bytes = {}, {}, 0
if now > tonumber(ARGV[8]) then return {claimed, parked} end -- a broken connection has delivered it late
if ARGV[9] == '1' then unclaim(KEYS[1], MESSAGE, 'owner', 'claims', ARGV[1], ARGV[4]) end
local since = ARGV[5] - 1000 -- it knows the start to a second
local is_held = now < ARGV[5] + @WITHDRAWAL_MS@

-- Tells whether there is room for more.
local function consider(id)
  local key = MESSAGE .. id
  local owner, claims, size, accepted = unpack(redis.call('HMGET', key, 'owner', 'claims', 'size', 'accepted'))
  if not size then
    redis.call('ZREM', KEYS[1], id)
  elseif owner and is_protected(KEYS[1], id, ARGV[4], ARGV[5]) then -- it keeps its owner
  elseif is_held and tonumber(accepted) < since then -- it keeps its place
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
    if #claimed > 0 and (claims or bytes + size > tonumber(ARGV[3])) then return false end
    bytes = bytes + size
    redis.call('HSET', key, 'owner', ARGV[1])
    redis.call('HINCRBY', key, 'claims', 1)
    redis.call('ZADD', KEYS[1], now + ARGV[4], id)
    local fields = redis.call('HMGET', key, 'version', 'envelope', 'sha256', 'seal', 'chunks', 'content', 'rest')
    claimed[#claimed + 1] = {id, fields[1], fields[2], fields[3], fields[4], fields[5], (fields[6] or '') .. (fields[7] or ''), size}
    if claims then return false end
  end
  return #claimed < tonumber(ARGV[2])
end

if not is_held then
  look_through(KEYS[1], ARGV[2], {}, consider, function() return #claimed > 0 end)
  return {claimed, parked}
end
-- Redis was away: the client of what is older may have heard 451 meanwhile, and ingress is about to take it back. What
-- was accepted since lies apart from it, in one short stretch of the queue for each priority.
local seen = {}
for lead = @MAX_LEAD_MS@, 0, -@PRIORITY_STEP_MS@ do
  local ends = math.min(now, since - lead + @PRIORITY_STEP_MS@ - 1)
  local ids = redis.call('ZRANGEBYSCORE', KEYS[1], since - lead, ends, 'LIMIT', 0, ARGV[2])
  if not consider_all(ids, seen, consider) then break end
end
return {claimed, parked}
