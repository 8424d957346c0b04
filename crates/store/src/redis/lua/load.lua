-- One instance, by its id or as the last session of a subject. Changes nothing.
--
-- KEYS      its bucket
-- ARGV[2]   { tenant, raw id or false, sessions, expires }
--             sessions: `<tenant>:<machine>:<subject>`, for the session with the highest ordinal
--             expires: whether closed instances go by time
-- Replies   nothing, or { raw id, head, body }, or { raw id } for one that was saved and is lost

local is_foreign = foreign()
if is_foreign then
  return is_foreign
end
local P = home(KEYS[1])
local tenant, id, sessions, expires = unpack(cmsgpack.unpack(ARGV[2]))
if not id then
  id = call('ZREVRANGE', P .. 's:' .. sessions, 0, 0)[1]
end
if not id then
  return false
end
local found = call('HMGET', P .. 'i:' .. tenant .. ':' .. esc(id), 'head', 'body')
if found[1] then
  return { id, found[1], found[2] }
end
local absent = absence(P, tenant, id, expires)
if absent == LOST or (sessions and not absent) then
  return { id }
end
return false
