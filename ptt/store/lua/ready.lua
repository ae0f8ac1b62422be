#!lua
-- Tell that the functions are there. KEYS: none   ARGV: none
return now
