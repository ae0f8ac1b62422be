-- PowerDNS asks this for each record of an update; false refuses the whole of it.
-- Names of keys end with a dot. One entry more for each name below the zone that sends mail.
local ALLOWED = { ["ptt."] = { "_domainkey.example.org." } }

function updatepolicy(input)
  if input:getQType() ~= pdns.TXT then
    return false
  end
  local signed, key = pcall(function() return input:getTsigName():toString():lower() end)
  if not signed then
    return false  -- an update without TSIG has no name of a key
  end
  local owner = input:getQName():toString():lower()
  for _, parent in ipairs(ALLOWED[key] or {}) do
    local ending = "." .. parent
    if owner:sub(-#ending) == ending then
      return true
    end
  end
  return false
end
