-- Says how attempts have ended.
--
-- KEYS      the buckets
-- ARGV[2]   { now, groups }: groups has for each key the settlements of its bucket, each
--           { tenant, key, attempt, status, due_at, failure, parts_done, provider, uncounted }
--             attempt is false for an effect that is damaged: it is given up, whatever its attempt
--             due_at is false when it is settled; failure, parts_done and provider are false where they stay
-- Replies   for each key, a list of 1 or 0: whether it was so

local is_foreign = foreign()
if is_foreign then
  return is_foreign
end
local now, groups = unpack(cmsgpack.unpack(ARGV[2]))
now = whole(now)

local function settle(P, settlement)
  local tenant, key, attempt, status, due_at, failure, parts_done, provider, uncounted = unpack(settlement)
  local progress = find_effect(P, tenant, key)
  if not progress or progress[STATUS] ~= 'sending' or (attempt and progress[ATTEMPTS] ~= attempt) then
    return 0
  end
  set_status(P, tenant, key, progress, status)
  progress[ATTEMPTS] = progress[ATTEMPTS] - uncounted
  progress[DUE_AT] = due_at and whole(due_at)
  progress[SETTLED_AT] = not due_at and now
  progress[FAILURE] = failure or progress[FAILURE]
  progress[PARTS] = parts_done or progress[PARTS]
  if provider then
    set_provider(P, tenant, key, progress, provider)
  end
  save_effect(P, tenant, key, progress)
  local name = name_of(tenant, key, progress)
  if due_at then
    -- Who has lost its turn to one that was retried meanwhile does not get it back by failing.
    if call('ZSCORE', P .. 'claimable', name) then
      call('ZADD', P .. 'claimable', progress[DUE_AT], name)
    end
  else
    leave_lane(P, tenant, key, progress)
    call('ZADD', P .. 'settled', now, name)
  end
  return 1
end

local replies = {}
for g, settlements in ipairs(groups) do
  local P, reply = home(KEYS[g]), {}
  for i, settlement in ipairs(settlements) do
    reply[i] = settle(P, settlement)
  end
  write_counts(P)
  replies[g] = reply
end
return replies
