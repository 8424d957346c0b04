-- What the scripts of the outbox share; it stands behind `common.lua`.
--
-- `claimable` has what may be claimed and nothing else, by the time at which it may: of each lane only the first that is
-- not settled. So whatever changes a lane ends with `seat_first`.

-- The places in an effect's progress, as `commit.lua` writes it.
local SEQ, LANE, STATUS, ATTEMPTS, PARTS, DUE_AT, SETTLED_AT, STAGE, PROVIDER, FAILURE = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10

local function find_effect(P, tenant, key)
  local progress = call('HGET', P .. 'o:' .. tenant .. ':' .. key, 'progress')
  return progress and cjson.decode(progress)
end

local function save_effect(P, tenant, key, progress)
  call('HSET', P .. 'o:' .. tenant .. ':' .. key, 'progress', cjson.encode(progress))
end

local function name_of(tenant, key, progress)
  return string.format('%016.0f', tonumber(progress[SEQ])) .. ':' .. tenant .. ':' .. key
end

local function lane_of(P, tenant, progress)
  return progress[LANE] and P .. 'lane:' .. tenant .. ':' .. progress[LANE]
end

-- Lets the first of a lane be claimed when it is due.
local function seat_first(P, tenant, lane)
  local first = call('ZRANGE', lane, 0, 0)[1]
  local progress = first and find_effect(P, tenant, first)
  if progress and progress[DUE_AT] then
    call('ZADD', P .. 'claimable', progress[DUE_AT], name_of(tenant, first, progress))
  end
end

local function set_status(P, tenant, key, progress, status)
  if progress[STATUS] ~= status then
    count('e\31' .. progress[STATUS], -1)
    count('e\31' .. status, 1)
  end
  progress[STATUS] = status
  if status == 'delivered' then
    call('ZREM', P .. 'undelivered:' .. tenant, key)
  else
    call('ZADD', P .. 'undelivered:' .. tenant, progress[SEQ], key)
  end
end

local function provider_member(progress, key)
  return esc(progress[PROVIDER]) .. '\31' .. string.format('%016.0f', tonumber(progress[SEQ])) .. '\31' .. key
end

local function set_provider(P, tenant, key, progress, provider)
  if progress[PROVIDER] then
    call('ZREM', P .. 'providers:' .. tenant, provider_member(progress, key))
  end
  progress[PROVIDER] = provider
  if provider then
    call('ZADD', P .. 'providers:' .. tenant, 0, provider_member(progress, key))
  end
end

-- Takes a settled effect off its lane, and lets the next one go.
local function leave_lane(P, tenant, key, progress)
  call('ZREM', P .. 'claimable', name_of(tenant, key, progress))
  local lane = lane_of(P, tenant, progress)
  if lane then
    call('ZREM', lane, key)
    seat_first(P, tenant, lane)
  end
end
