# Runs one of PostgreSQL's TAP tests against a server that is there, as far as the test makes its objects: statements
# are passed to psql, and at the first command that is to be tested this ends.
#
#   perl tools/suite.pl TEST DATABASE PSQL [ARGUMENT...]
#
# What the test does in the database postgres it does in DATABASE.
use strict;
use warnings;
use File::Temp;

our ($test, $database, @psql) = @ARGV;

# The modules that tests use, as far as they use them before that point.
BEGIN { $INC{$_} = 1 for 'PostgreSQL/Test/Cluster.pm', 'PostgreSQL/Test/Utils.pm', 'Test/More.pm'; }

package PostgreSQL::Test::Utils;

our $timeout_default = 180;

sub tempdir { return File::Temp::tempdir(CLEANUP => 1); }

package PostgreSQL::Test::Cluster;

our $AUTOLOAD;

sub new { return bless {}, shift; }
sub init { return; }
sub start { return; }
sub port { return 0; }

sub safe_psql
{
	my ($self, $name, $sql) = @_;
	$name = $main::database if $name eq 'postgres';
	# Another test may have made the same role.
	$sql =~ s/\bCREATE ROLE (\w+);/SELECT 'CREATE ROLE $1' WHERE to_regrole('$1') IS NULL \\gexec\n/g;
	open my $pipe, '|-', @main::psql, qw(-XAtq -v ON_ERROR_STOP=1 -f - -d), $name or die "psql: $!\n";
	print $pipe $sql;
	close $pipe or die "psql failed\n";
	return '';
}

# As it may be called for a list or not, and with where the errors are to go: nothing here is meant to fail.
sub psql
{
	my ($self, $name, $sql, %options) = @_;
	$self->safe_psql($name, $sql);
	${ $options{stderr} } = '' if $options{stderr};
	return 0;
}

sub DESTROY { return; }
sub AUTOLOAD { exit 0; }

package main;

our $AUTOLOAD;

# Debian builds with all libraries.
$ENV{with_icu} = 'yes';
sub check_pg_config { return 1; }
# Called without parentheses, but later.
sub note { exit 0; }
sub AUTOLOAD { exit 0; }

do $test;
die $@ || "$test: $!\n";
