-- Claims effects that are due.
--
-- KEYS      a bucket
-- ARGV[2]   { now, lease_until, names }: members of `claimable`, `<seq>:<tenant>:<key>`
-- Replies   for each: { effect, progress, 1 if it was being sent }; false if it is not due any more; or `lost`

local is_foreign = foreign()
if is_foreign then
  return is_foreign
end
local P = home(KEYS[1])
local now, lease_until, names = unpack(cmsgpack.unpack(ARGV[2]))
lease_until = whole(lease_until)
local replies = {}
for i, name in ipairs(names) do
  local score = call('ZSCORE', P .. 'claimable', name)
  replies[i] = false
  if score and tonumber(score) <= now then
    local tenant, key = string.match(name, '^%d+:([^:]*):(.*)$')
    local progress = find_effect(P, tenant, key)
    if progress then
      replies[i] = { call('HGET', P .. 'o:' .. tenant .. ':' .. key, 'effect'), '', progress[STATUS] == 'sending' and 1 or 0 }
      set_status(P, tenant, key, progress, 'sending')
      progress[ATTEMPTS] = progress[ATTEMPTS] + 1
      progress[DUE_AT] = lease_until
      save_effect(P, tenant, key, progress)
      replies[i][2] = cjson.encode(progress)
      call('ZADD', P .. 'claimable', lease_until, name)
    else
      -- Nobody behind it should wait for what is lost.
      call('ZREM', P .. 'claimable', name)
      local owner = string.match(key, '^(.*):%d+:%d+$') or key
      for _, lane in ipairs({ 'h', 'p', 'f' }) do
        lane = P .. 'lane:' .. tenant .. ':' .. esc(owner) .. ':' .. lane
        if call('ZREM', lane, key) == 1 then
          seat_first(P, tenant, lane)
        end
      end
      replies[i] = 'lost'
    end
  end
end
write_counts(P)
return replies
