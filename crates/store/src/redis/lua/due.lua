-- Claims instances that are due.
--
-- KEYS      a bucket
-- ARGV[2]   { now, lease_until, members }: members of `due`, `<tenant>:<id>`
-- Replies   for each: its deadline; false if it is not due any more; `lost` if it was saved and is gone
--
-- The score in `due` is the deadline or, while the instance is claimed, the end of the lease if that is later.

local is_foreign = foreign()
if is_foreign then
  return is_foreign
end
local P = home(KEYS[1])
local now, lease_until, members = unpack(cmsgpack.unpack(ARGV[2]))
local replies = {}
for i, member in ipairs(members) do
  local score = call('ZSCORE', P .. 'due', member)
  replies[i] = false
  if score and tonumber(score) <= now then
    local head = call('HGET', P .. 'i:' .. member, 'head')
    local wake_at = head and present(cjson.decode(head)[WAKE_AT])
    if wake_at then
      call('ZADD', P .. 'due', whole(lease_until), member)
      replies[i] = whole(wake_at)
    else
      -- Nobody can see to it. A commit that mends it puts it back.
      call('ZREM', P .. 'due', member)
      replies[i] = head and false or 'lost'
    end
  end
end
return replies
