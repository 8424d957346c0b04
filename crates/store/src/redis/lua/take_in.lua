-- Takes in instances as they stand elsewhere: all of them, or none if one is there.
--
-- KEYS      the buckets; on a cluster one, elsewhere all that it is about
-- ARGV[2]   { ttl, groups }
--             groups: one for each key, { seen, chains }, of which the first is as `commit.lua` has it
--           a chain is as there, with all lines of its instance, and effects that are
--             { key, number, lane, at, value, { status, attempts, parts, due_at, settled_at, stage, provider, error } }
-- Replies   one for each group: { last number of the log, last number of an effect, numbers lost }; or the raw id of an
--           instance that is there
--
-- First everything is checked, then everything is written.

local groups
ttl, groups = unpack(cmsgpack.unpack(ARGV[2]))

-- What earlier chains of the call are about.
local touched = {}

local function touch(what)
  local met = touched[what]
  touched[what] = true
  return met
end

local function is_met(P, chain, found)
  local instance = chain[7]
  local met = touch(P .. 'i' .. found.about)
  if instance[4] then
    found.sessions = P .. 's:' .. chain[1] .. ':' .. esc(instance[3]) .. ':' .. esc(instance[4])
    met = instance[5] > 0 and touch(found.sessions .. ':' .. instance[5]) or met
  end
  return met or not is_free(P, chain, found)
end

local function check(P, chain)
  for _, line in ipairs(chain[6]) do
    if touch(P .. 'r' .. line[1]) or call('EXISTS', P .. 'e:' .. line[1]) == 1 then
      violation('the receipt ' .. line[1] .. ' of ' .. chain[3] .. ' is there')
    end
  end
  for _, effect in ipairs(chain[10]) do
    local key = P .. 'o:' .. chain[1] .. ':' .. effect[1]
    if touch(key) or call('EXISTS', key) == 1 then
      violation('the effect ' .. effect[1] .. ' is there')
    end
  end
end

-- Gives the raw id of an instance that is there, or what was found of every chain.
local function check_all()
  local plans = {}
  for g, group in ipairs(groups) do
    local P, plan = home(KEYS[g]), {}
    for c, chain in ipairs(group[2]) do
      plan[c] = find(P, chain)
      if is_met(P, chain, plan[c]) then
        return chain[3]
      end
      check(P, chain)
    end
    plans[g] = plan
  end
  return nil, plans
end

local function write_effect(P, chain, found, effect, lanes)
  local tenant, key, seq, lane = chain[1], effect[1], effect[2], effect[3]
  local status, attempts, parts, due_at, settled_at, stage, provider, failure = unpack(effect[6])
  local number = whole(seq)
  local progress = {
    number, lane and chain[2] .. ':' .. lane or false, status, attempts, parts, due_at and whole(due_at),
    settled_at and whole(settled_at), stage, provider, failure,
  }
  call('HSET', P .. 'o:' .. tenant .. ':' .. key, 'effect', effect[5], 'progress', cjson.encode(progress))
  call('ZADD', P .. 'effects:' .. tenant, number, key)
  call('ZADD', P .. 'of:' .. found.about, number, key)
  if status ~= 'delivered' then
    call('ZADD', P .. 'undelivered:' .. tenant, number, key)
  end
  if provider then
    call('ZADD', P .. 'providers:' .. tenant, 0, provider_member(progress, key))
  end
  local name = name_of(tenant, key, progress)
  if not due_at then
    call('ZADD', P .. 'settled', progress[SETTLED_AT] or whole(effect[4]), name)
  elseif lane then
    lane = lane_of(P, tenant, progress)
    call('ZADD', lane, number, key)
    lanes[lane] = true
  else
    call('ZADD', P .. 'claimable', progress[DUE_AT], name)
  end
  count('e\31' .. status, 1)
  return seq
end

local function write(P, chain, found, seq, last)
  for id in pairs(found.expired) do
    forget(P, chain[1], id, closed_member(P, chain[1], id))
  end
  local instance, lanes = chain[7], {}
  local is_closed = instance[7]
  write_instance(P, chain, found)
  write_phases(P, chain, found, false, not is_closed)
  append_lines(P, chain, found, seq, is_closed)
  if chain[5] and is_closed and #chain[6] == 0 then
    call('ZADD', P .. 'beside', whole(instance[8]), found.about)
  end
  if #chain[8] > 0 then
    write_questions(P, chain, found)
  end
  for _, effect in ipairs(chain[10]) do
    last = math.max(last, write_effect(P, chain, found, effect, lanes))
  end
  for lane in pairs(lanes) do
    seat_first(P, chain[1], lane)
  end
  return seq + #chain[6], last
end

local function write_group(P, group, plan)
  local meta = call('HMGET', P .. 'meta', 'seq', 'effects', 'latest')
  local seq, effects, latest = tonumber(meta[1]), tonumber(meta[2]), tonumber(meta[3] or -math.huge)
  local lost = math.max(group[1] - seq, 0)
  seq = seq + lost
  for c, chain in ipairs(group[2]) do
    seq, effects = write(P, chain, plan[c], seq, effects)
    latest = math.max(latest, chain[7][8])
  end
  call('HSET', P .. 'meta', 'seq', whole(seq), 'effects', whole(effects), 'latest', whole(latest))
  if lost > 0 then
    call('HINCRBY', P .. 'counts', 'lost', lost)
  end
  write_counts(P)
  return { whole(seq), whole(effects), whole(lost) }
end

local is_foreign = foreign()
if is_foreign then
  return is_foreign
end
local is_sound, met, plans = pcall(check_all)
if not is_sound then
  if type(met) == 'table' and met.detail then
    return redis.error_reply('VIOLATION ' .. met.detail)
  end
  error(met)
elseif met then
  return met
end
local replies = {}
for g, group in ipairs(groups) do
  replies[g] = write_group(home(KEYS[g]), group, plans[g])
end
return replies
