-- Lines of the log of an instance, oldest first. Changes nothing.
--
-- KEYS      its bucket
-- ARGV[2]   { tenant, id, after, limit }: those whose number is higher than `after`
-- Replies   number, receipt and line of each, one behind the other; the line is false where it is lost

local is_foreign = foreign()
if is_foreign then
  return is_foreign
end
local P = home(KEYS[1])
local tenant, id, after, limit = unpack(cmsgpack.unpack(ARGV[2]))
local key = P .. 'l:' .. tenant .. ':' .. id
local low, high = 0, call('LLEN', key)
if after > 0 then
  while low < high do
    local middle = math.floor((low + high) / 2)
    if tonumber(string.match(call('LINDEX', key, middle), '^%d+')) > after then
      high = middle
    else
      low = middle + 1
    end
  end
end
local replies = {}
for _, element in ipairs(call('LRANGE', key, low, low + limit - 1)) do
  local number, receipt = string.match(element, '^(%d+):(.*)$')
  replies[#replies + 1] = number
  replies[#replies + 1] = receipt
  replies[#replies + 1] = call('GET', P .. 'e:' .. receipt)
end
return replies
