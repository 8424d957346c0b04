-- Keeps a definition or a setting.
--
-- KEYS[1]   `<prefix>:{meta}:store`
-- ARGV[1]   the identity of the store
-- ARGV[2]   { what, name, value }: what is `definitions` or `settings`

local is_foreign = foreign()
if is_foreign then
  return is_foreign
end
local P = string.sub(KEYS[1], 1, -6)
local what, name, value = unpack(cmsgpack.unpack(ARGV[2]))
if what == 'definitions' then
  -- The one saved last is the last.
  local last = call('ZREVRANGE', P .. 'order', 0, 0, 'WITHSCORES')[2]
  call('ZADD', P .. 'order', whole((tonumber(last) or 0) + 1), name)
end
call('HSET', P .. what, name, value)
return 1
