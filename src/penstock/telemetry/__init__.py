"""What others see of the calls: metrics and logs, made from receipts after the fact."""
