#!lua flags=allow-oom
-- Lease messages that have outcomes to report to a sign worker.
-- KEYS: reports, parked, events
-- ARGV: token, limit, max bytes, lease ms, when Redis restarted (ms; 0: long ago), most claims, most events,
--   when its worker gives up (ms), may an earlier answer with this token be lost (0/1), most octets of records in one report
-- Returns {claimed, parked ids}; claimed = {queue-id, version, envelope, sha256, seal, chunks, content, size,
--   accepted ms, number of the first record, records}
local function read_records(key, first, last, most_octets)
  local records, octets = {}, 0
  for number = first, last do
    local record = redis.call('HGET', key, 'd:' .. number)
    octets = octets + (record and #record or 0)
    if not record or (#records > 0 and octets > most_octets) then break end
    records[#records + 1] = record
  end
  return records
end

local claimed, parked, bytes = {}, {}, 0
if now > tonumber(ARGV[8]) then return {claimed, parked} end -- a broken connection has delivered it late
if ARGV[9] == '1' then unclaim(KEYS[1], DELIVERY, 'report_owner', 'report_claims', ARGV[1], ARGV[4]) end

-- Tells whether there is room for more.
local function consider(id)
  local key = DELIVERY .. id
  local owner, claims, reported, recorded =
    unpack(redis.call('HMGET', key, 'report_owner', 'report_claims', 'reported', 'recorded'))
  local size = redis.call('HGET', MESSAGE .. id, 'size')
  local first = (reported or 0) + 1
  if not size or tonumber(recorded or 0) < first then
    redis.call('ZREM', KEYS[1], id)
  elseif owner and is_protected(KEYS[1], id, ARGV[4], ARGV[5]) then -- it keeps its owner
  elseif tonumber(claims or 0) >= tonumber(ARGV[6]) then
    redis.call('ZREM', KEYS[1], id)
    redis.call('HDEL', key, 'report_owner')
    redis.call('HSET', key, 'report_parked', 'each worker that claimed it died')
    redis.call('ZADD', KEYS[2], now, id .. ' !report')
    redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[7], '*', 'queue_id', id, 'event', 'dsn.parked')
    parked[#parked + 1] = id
  else
    if #claimed > 0 and (claims or bytes + size > tonumber(ARGV[3])) then return false end -- see claim_sign.lua
    bytes = bytes + size
    redis.call('HSET', key, 'report_owner', ARGV[1])
    redis.call('HINCRBY', key, 'report_claims', 1)
    redis.call('ZADD', KEYS[1], now + ARGV[4], id)
    local records = read_records(key, first, tonumber(recorded), tonumber(ARGV[10]))
    local f = redis.call('HMGET', MESSAGE .. id, 'version', 'envelope', 'sha256', 'seal', 'chunks', 'content', 'rest',
      'accepted')
    local content = (f[6] or '') .. (f[7] or '')
    claimed[#claimed + 1] = {id, f[1], f[2], f[3], f[4], f[5], content, size, f[8], first, records}
    if claims then return false end
  end
  return #claimed < tonumber(ARGV[2])
end

look_through(KEYS[1], ARGV[2], {}, consider, function() return #claimed > 0 end)
return {claimed, parked}
