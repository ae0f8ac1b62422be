-- In front of every script: the clock (Redis's own, so that workers need not agree on the time) and the wake-ups.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local PREFIX = '@PREFIX@'
local WAKE = PREFIX .. 'wake:'

-- Push wake-ups in the broker database; call it last, for the script stays in that database.
-- wakeups: {{flag, list, template, destination}, ...}
local function push_wakeups(broker_db, ttl_ms, wakeups)
  if #wakeups == 0 then return end
  redis.call('SELECT', broker_db)
  for index, wakeup in ipairs(wakeups) do
    local flag, list, template, destination = unpack(wakeup)
    if redis.call('SET', WAKE .. flag, 1, 'NX', 'PX', ttl_ms) then
      local places = {['@ID@'] = string.format('%.0f-%s-%d', now, time[2], index), ['@DESTINATION@'] = destination}
      redis.call('LPUSH', list, (string.gsub(template, '@%u+@', places)))
    end
  end
end
