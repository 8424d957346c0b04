-- Makes an effect due again that did not arrive.
--
-- KEYS      its bucket
-- ARGV[2]   { tenant, key, now, statuses }: statuses that may be retried
-- Replies   the status that it had, or false

local is_foreign = foreign()
if is_foreign then
  return is_foreign
end
local P = home(KEYS[1])
local tenant, key, now, statuses = unpack(cmsgpack.unpack(ARGV[2]))
local progress = find_effect(P, tenant, key)
if not progress then
  return false
end
local former, may_be = progress[STATUS], false
for _, status in ipairs(statuses) do
  may_be = may_be or status == former
end
if not may_be then
  return former
end
set_status(P, tenant, key, progress, 'pending')
set_provider(P, tenant, key, progress, false)
progress[ATTEMPTS], progress[STAGE], progress[DUE_AT], progress[SETTLED_AT] = 0, false, whole(now), false
save_effect(P, tenant, key, progress)
local name, lane = name_of(tenant, key, progress), lane_of(P, tenant, progress)
call('ZREM', P .. 'settled', name)
if lane then
  -- It may come in front of who was the first so far.
  local first = call('ZRANGE', lane, 0, 0)[1]
  local ahead = first and first ~= key and find_effect(P, tenant, first)
  if ahead then
    call('ZREM', P .. 'claimable', name_of(tenant, first, ahead))
  end
  call('ZADD', lane, progress[SEQ], key)
  seat_first(P, tenant, lane)
else
  call('ZADD', P .. 'claimable', progress[DUE_AT], name)
end
write_counts(P)
return former
