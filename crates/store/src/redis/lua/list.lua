-- A range of a sorted set, each with the record that it stands for. Changes nothing.
--
-- KEYS      the bucket
-- ARGV[2]   { what, tenant, command, set, arguments, scored }
--             what: `heads` (members are raw ids, or entries of the closed), `standings` (raw ids; the head, and
--             whether the body looks like that of a dead end, where nothing comes by time), `questions` (raw ids),
--             `effects` (keys), `phases` or `offers` (members of these sets)
--             command and arguments: of the range, without its key; `ONE` is the first argument itself
--             set: the name of the set; scored: whether WITHSCORES is among the arguments
-- Replies   { members, scores, records }, scores only of what is scored; a record is false where it is lost, a list where it has parts

local is_foreign = foreign()
if is_foreign then
  return is_foreign
end
local P = home(KEYS[1])
local what, tenant, command, set, arguments, scored = unpack(cmsgpack.unpack(ARGV[2]))

local records = {
  heads = function(member)
    local id = string.match(member, '^[^\31]*')
    return call('HGET', P .. 'i:' .. tenant .. ':' .. esc(id), 'head')
  end,
  standings = function(member)
    local about = P .. 'i:' .. tenant .. ':' .. esc(member)
    local head = call('HGET', about, 'head')
    -- The last two of a head are when it is due and until when it goes in circles.
    local is_timeless = head and string.find(head, ',null,[^,]*%]$')
    local body = is_timeless and call('HGET', about, 'body')
    return head and { head, body and string.find(body, '"dead_end":true', 1, true) and 1 or 0 }
  end,
  questions = function(member)
    return call('GET', P .. 'q:' .. tenant .. ':' .. esc(member))
  end,
  effects = function(member)
    local found = call('HMGET', P .. 'o:' .. tenant .. ':' .. member, 'effect', 'progress')
    return found[1] and found
  end,
  phases = function(member)
    local id, place = string.match(member, '([^\31]*)\31(%d+)$')
    return call('HGET', P .. 'p:' .. tenant .. ':' .. esc(id), 65535 - tonumber(place))
  end,
  offers = function(member)
    local id, place = string.match(member, '([^\31]*)\31(%d+)$')
    return call('HGET', P .. 'p:' .. tenant .. ':' .. esc(id), tonumber(place))
  end,
}

local range = command == 'ONE' and arguments or call(command, P .. set, unpack(arguments))
local members, scores, found = {}, {}, {}
for i = 1, #range, scored and 2 or 1 do
  members[#members + 1] = range[i]
  if scored then
    scores[#members] = range[i + 1]
  end
  found[#members] = records[what](range[i]) or false
end
return { members, scores, found }
