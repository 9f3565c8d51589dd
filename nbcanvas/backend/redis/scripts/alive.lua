-- Return how many workers of ours have beaten within some seconds, by the server's clock, which they beat by.
--
-- KEYS: the workers (their last beats).  ARGV: seconds.

return redis.call('ZCOUNT', KEYS[1], redis.call('TIME')[1] - ARGV[1], '+inf')
