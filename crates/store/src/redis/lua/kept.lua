-- All definitions, in their order, or all settings. Changes nothing.
--
-- KEYS[1]   `<prefix>:{meta}:store`
-- ARGV[1]   the identity of the store
-- ARGV[2]   { what }: `definitions` or `settings`
-- Replies   name and value of each, one behind the other

local is_foreign = foreign()
if is_foreign then
  return is_foreign
end
local P = string.sub(KEYS[1], 1, -6)
local what = unpack(cmsgpack.unpack(ARGV[2]))
if what == 'settings' then
  return call('HGETALL', P .. what)
end
local replies = {}
for _, name in ipairs(call('ZRANGE', P .. 'order', 0, -1)) do
  replies[#replies + 1] = name
  replies[#replies + 1] = call('HGET', P .. what, name)
end
return replies
