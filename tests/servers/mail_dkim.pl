# Verifies messages with Mail::DKIM, an implementation in Perl that shares nothing with ours.
# Arguments: a file with one record a line, name and text. Standard input: messages, each with its length in 4 octets
# in front. Standard output: one line a message, "algorithm=result" for each signature, topmost first.
use strict;
use warnings;
use Mail::DKIM::Verifier;
use Net::DNS;

package Records {
    sub new { my ($class, $records) = @_; return bless { records => $records }, $class }
    sub errorstring { return 'NOERROR' }
    sub send {
        my ($self, $name, $type) = @_;
        my $reply = Net::DNS::Packet->new($name, $type);
        $reply->header->qr(1);
        my $text = $self->{records}{$name};
        if ($type eq 'TXT' && defined $text) {
            my @strings = unpack '(a255)*', $text;
            $reply->push(answer => Net::DNS::RR->new(name => $name, type => 'TXT', txtdata => \@strings));
        } else {
            $reply->header->rcode('NXDOMAIN');
        }
        return $reply;
    }
}

my %records;
open my $file, '<', $ARGV[0] or die "$ARGV[0]: $!";
while (<$file>) { chomp; my ($name, $text) = split / /, $_, 2; $records{$name} = $text }
Mail::DKIM::DNS::resolver(Records->new(\%records));

binmode STDIN;
$| = 1;
while (read(STDIN, my $length, 4) == 4) {
    read STDIN, my $message, unpack 'N', $length;
    my $verifier = Mail::DKIM::Verifier->new;
    $verifier->PRINT($message);
    $verifier->CLOSE;
    print join(' ', map { $_->algorithm . '=' . $_->result } $verifier->signatures), "\n";
}
