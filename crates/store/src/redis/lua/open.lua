-- The identity of the store, made if there is none.
--
-- KEYS[1]   `<prefix>:{meta}:store`
-- ARGV[1]   an identity that nobody else has
-- ARGV[2]   the number of buckets
-- ARGV[3]   the version of the layout
-- Replies   { identity, number of buckets, version, ready }

if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'store', ARGV[1], 'buckets', ARGV[2], 'layout', ARGV[3], 'ready', '0')
end
return redis.call('HMGET', KEYS[1], 'store', 'buckets', 'layout', 'ready')
