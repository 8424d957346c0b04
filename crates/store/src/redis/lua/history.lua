-- Lines of the log of an instance, oldest or newest first. Changes nothing.
--
-- KEYS      its bucket
-- ARGV[2]   { tenant, id, behind, limit, newest first }: those behind the number, all if it is below zero
-- Replies   number, receipt and line of each, one behind the other; the line is false where it is lost

local is_foreign = foreign()
if is_foreign then
  return is_foreign
end
local P = home(KEYS[1])
local tenant, id, behind, limit, newest_first = unpack(cmsgpack.unpack(ARGV[2]))
local key = P .. 'l:' .. tenant .. ':' .. id
local count = call('LLEN', key)
-- How many lines are before the place, in the order of their numbers.
local before = (newest_first and behind < 0) and count or 0
if behind >= 0 then
  local high = count
  while before < high do
    local middle = math.floor((before + high) / 2)
    local number = tonumber(string.match(call('LINDEX', key, middle), '^%d+'))
    if number > behind or (newest_first and number == behind) then
      high = middle
    else
      before = middle + 1
    end
  end
end
local from, to = before, before + limit - 1
if newest_first then
  from, to = math.max(before - limit, 0), before - 1
end
local lines = to < from and {} or call('LRANGE', key, from, to)
local replies = {}
for place = 1, #lines do
  local element = lines[newest_first and #lines + 1 - place or place]
  local number, receipt = string.match(element, '^(%d+):(.*)$')
  replies[#replies + 1] = number
  replies[#replies + 1] = receipt
  replies[#replies + 1] = call('GET', P .. 'e:' .. receipt)
end
return replies
