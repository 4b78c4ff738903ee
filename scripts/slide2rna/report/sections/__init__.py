"""Report sections: functions from tables to rows and sentences."""
